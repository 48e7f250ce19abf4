"""Users of the embedded broker: one for each role, its password generated once for each store."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from deploy.nats.errors import StoreUnusable

FILE = "credentials"
_PASSWORD_BYTES = 24
"""192 random bits, as 32 characters that need no quoting in a URL."""

Users = dict[str, tuple[str, str]]
"""Role to (user, password)."""
_Word = Annotated[str, Field(min_length=1)]
_KEPT = TypeAdapter(dict[str, tuple[_Word, _Word]])


def obtain(store: Path, roles: Iterable[str]) -> Users:
    """The users kept in `store`; those of `roles` that are missing are made and kept.

    Raises StoreUnusable when the file is there but is not what `obtain` writes.
    """
    path = store / FILE
    users = load(store) if path.exists() else {}
    missing = [role for role in roles if role not in users]
    if missing:
        users |= {role: (role, secrets.token_urlsafe(_PASSWORD_BYTES)) for role in missing}
        write_private(path, json.dumps(users, indent=1) + "\n")
    else:
        path.chmod(0o600)
    return users


def load(store: Path) -> Users:
    """The users kept in `store`. Raises StoreUnusable when there are none to be read."""
    path = store / FILE
    try:
        return _KEPT.validate_json(path.read_bytes())
    except OSError as fault:
        raise StoreUnusable(f"{path}: {fault.strerror}") from None
    except ValidationError:
        # `from None`: the exception carries the text that could not be read.
        raise StoreUnusable(f"{path} is damaged: delete it, and new users are made") from None


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0600, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # a process that was killed may have left it
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

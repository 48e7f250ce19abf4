"""Where this user's Headrace lives, and how a process finds the broker that runs there.

``$XDG_DATA_HOME/headrace`` (default ``~/.local/share/headrace``), or ``--data``: ``broker/`` is the
embedded broker's store, ``key`` the API key made for this user, mode 0600.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from deploy.nats import credentials, store

KEY_FILE = "key"
_KEY_BYTES = 24


def data_dir(given: Path | None = None) -> Path:
    if given is not None:
        return given.expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "headrace"


def broker_store(data: Path) -> Path:
    return data / "broker"


def login(data: Path, role: str) -> dict[str, str] | None:
    """`url`, `user` and `password` of the broker that runs on this machine's data directory."""
    place = broker_store(data)
    address = store.find(place)
    if address is None:
        return None
    user, password = credentials.load(place)[role]
    return {"url": address.url, "user": user, "password": password}


def own_key(data: Path) -> str:
    """The API key kept in `data`; made the first time."""
    path = data / KEY_FILE
    if path.exists():
        return path.read_text().strip()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = f"sk-headrace-{secrets.token_urlsafe(_KEY_BYTES)}"
    credentials.write_private(path, key + "\n")
    return key

"""Where this user's Headrace lives, and how a process finds the broker that runs there.

``$XDG_DATA_HOME/headrace`` (default ``~/.local/share/headrace``), or ``--data``: ``broker/`` is the
embedded broker's store, ``key`` the API key made for this user, ``console-key`` that of the
console, both mode 0600.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from deploy.nats import credentials, store
from deploy.nats.errors import StoreUnusable
from schemas.settings import SettingsError
from schemas.settings.sections import SECRET_MIN

KEY_FILE = "key"
CONSOLE_KEY_FILE = "console-key"
_KEY_BYTES = 24


def data_dir(given: Path | None = None) -> Path:
    if given is not None:
        return given.expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "headrace"


def broker_store(data: Path) -> Path:
    return data / "broker"


def login(data: Path, role: str) -> dict[str, str] | None:
    """`url`, `user`, `password`, `ca` and `tls_name` of the broker that runs on this machine's data
    directory; None without such a broker, or if it is of a release that did not have the role.
    Raises SettingsError for one that cannot be read, such as another user's."""
    place = broker_store(data)
    try:
        address = store.find(place)
        if address is None:
            return None
        known = credentials.load(place).get(role)
    except StoreUnusable as fault:
        raise SettingsError(str(fault)) from None
    return {**address.reaching, "user": known[0], "password": known[1]} if known else None


def own_key(data: Path) -> str:
    """The API key in `data`, which the first call makes. Raises SettingsError."""
    return _key(data, KEY_FILE)


def console_key(data: Path) -> str:
    """The key by which the console asks for who signed in by a link; the first call makes it. It is
    never shown. Raises SettingsError."""
    return _key(data, CONSOLE_KEY_FILE)


def found_console_key(data: Path) -> str | None:
    """The same where there is one. Raises SettingsError."""
    return console_key(data) if (data / CONSOLE_KEY_FILE).is_file() else None


def _key(data: Path, file: str) -> str:
    path = data / file
    try:
        if not path.exists():
            make(data)
            key = f"sk-headrace-{secrets.token_urlsafe(_KEY_BYTES)}"
            credentials.write_private(path, key + "\n")
            return key
        key = path.read_text(errors="replace").strip()
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    if len(key) < SECRET_MIN:
        raise SettingsError(f"{path} holds no key: delete it, and a new one is made")
    return key


def make(data: Path) -> None:
    """Raises SettingsError where there can be no such directory."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SettingsError(
            f"{data} cannot be the data directory: {fault.strerror}. Name another with --data"
        ) from None

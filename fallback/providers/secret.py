"""A provider's key: read when the fallback starts, and taken out of all that is said of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import structlog

from schemas.settings import Provider

log = structlog.get_logger("provider")

SHOWN = "[key]"
OURS = "[account]"
_MASKED = re.compile(r"[^\s\"'<>{}]{0,64}\*{3,}[^\s\"'<>{}]{0,64}")
"""Providers quote a wrong key with its middle starred: ``sk-proj-********abcd``."""
_ANY = re.compile(r"\b(?:sk|pk|gsk|rk|xai|key)[-_][A-Za-z0-9_-]{12,}|\bAIza[A-Za-z0-9_-]{20,}")
"""How keys of the known providers begin."""
_ACCOUNT = re.compile(
    r"\b(?:org|proj|wrkspc)[-_][A-Za-z0-9]{6,}"  # OpenAI, Groq; Anthropic
    r"|(?<=\bprojects/)[\w.-]+|(?<=\bproject_number:)\d+|(?<=\bproject )\d{6,}"  # Google
    r"|(?<=\baccounts/)[0-9a-f]{32}"  # Cloudflare
)
"""How they name the account, also in what they say of a client's fault."""
_HEAD = 8
_OTHERS = 0o077


class KeyMissing(Exception):
    """There is no key where the config says; the message says where."""


class Secret:
    """Has no representation: it cannot be logged by mistake."""

    __slots__ = ("_key", "_quoted")

    def __init__(self, key: str) -> None:
        self._key = key
        begins = re.escape(key[:_HEAD])
        self._quoted = re.compile(rf"{begins}[^\s\"'<>{{}},]*") if len(key) >= _HEAD else None

    def __bool__(self) -> bool:
        return bool(self._key)

    def headers(self, name: str) -> dict[str, str]:
        """That which carries the key: by its `name`, or as a bearer's; none without a key."""
        if not self._key:
            return {}
        return {name: self._key} if name else {"Authorization": f"Bearer {self._key}"}

    def scrub(self, text: str) -> str:
        """`text` without the key, parts of it, whatever looks like one, and the account's names."""
        if self._key:
            text = text.replace(self._key, SHOWN)
        if self._quoted is not None:
            text = self._quoted.sub(SHOWN, text)
        return _ACCOUNT.sub(OURS, _ANY.sub(SHOWN, _MASKED.sub(SHOWN, text)))


def read(config: Provider) -> Secret:
    """Raises KeyMissing. Without `key_env` and `key_file` it is empty."""
    if config.key_env:
        key = os.environ.get(config.key_env, "").strip()
        where = f"the environment variable {config.key_env}"
    elif config.key_file:
        key, where = _of_file(config), f"the file {config.key_file}"
    else:
        return Secret("")
    if not key:
        raise KeyMissing(f"{config.name} has no key: {where} is empty or not there")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KeyMissing(f"{config.name} has no key: {where} holds something else")
    return Secret(key)


def _of_file(config: Provider) -> str:
    """ "" for one that is not there. Raises KeyMissing for one that cannot be read."""
    path = Path(config.key_file).expanduser()
    try:
        if path.stat().st_mode & _OTHERS:
            log.warning("provider.key_file_open", file=str(path), hint="chmod 600")
        return path.read_text("utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    except OSError as fault:
        raise KeyMissing(
            f"{config.name} has no key: the file {path} cannot be read: {fault.strerror}"
        ) from None

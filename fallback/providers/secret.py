"""A provider's key: read when the fallback starts, and removed from all texts of the provider."""

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
"""How providers name our account, also in errors that clients see."""
_HEAD = 8
"""Letters of the key; a text that begins with them counts as the key, cut off or altered."""
_OTHERS = 0o077
"""File permissions of anybody but the owner."""


class KeyMissing(Exception):
    """There is no key at the place that the config names; the message names it, too."""


class Secret:
    """Its `repr` does not show the key, so that it cannot be logged by mistake."""

    __slots__ = ("_key", "_quoted")

    def __init__(self, key: str) -> None:
        self._key = key
        begins = re.escape(key[:_HEAD])
        self._quoted = re.compile(rf"{begins}[^\s\"'<>{{}},]*") if len(key) >= _HEAD else None

    def __bool__(self) -> bool:
        return bool(self._key)

    def headers(self, name: str) -> dict[str, str]:
        """The header with the key: `name`, or a bearer token if that is ""; none without a key."""
        if not self._key:
            return {}
        return {name: self._key} if name else {"Authorization": f"Bearer {self._key}"}

    def scrub(self, text: str) -> str:
        """`text` without the key, parts of it, what looks like a key, and the account's names."""
        if self._key:
            text = text.replace(self._key, SHOWN)
        if self._quoted is not None:
            text = self._quoted.sub(SHOWN, text)
        return _ACCOUNT.sub(OURS, _ANY.sub(SHOWN, _MASKED.sub(SHOWN, text)))


def read(config: Provider) -> Secret:
    """The provider's key, empty without `key_env` and `key_file`. Raises KeyMissing."""
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
    """The key in a file; "" if there is no file. Raises KeyMissing if it cannot be read."""
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

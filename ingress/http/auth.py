"""API keys. A key is found by its SHA-256, so that no comparison depends on the secret's bytes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from starlette.requests import Request

from schemas.errors import Unauthorized
from schemas.settings import Key


@dataclass(frozen=True, slots=True)
class Principal:
    """For whom a request is made. `key`: the key's name, never its secret. `local`: no provider may
    see its requests. `admin`: it may see and grant credits."""

    account: str
    key: str
    local: bool = False
    admin: bool = False


class Keys:
    def __init__(self, keys: list[Key]) -> None:
        self._known = {
            _digest(key.secret.get_secret_value()): Principal(
                key.account, key.name, key.local, key.admin
            )
            for key in keys
        }

    def who(self, request: Request) -> Principal:
        """Whose key is in ``Authorization: Bearer`` or ``x-api-key``. Raises Unauthorized."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":  # Anthropic's clients send the other header
            secret = request.headers.get("x-api-key", "")
        secret = secret.strip()
        if not secret:
            raise Unauthorized("No API key was sent. Send one as 'Authorization: Bearer <key>'.")
        digest = _digest(secret)
        for known, principal in self._known.items():
            if hmac.compare_digest(known, digest):
                return principal
        raise Unauthorized("The API key is not known here.")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

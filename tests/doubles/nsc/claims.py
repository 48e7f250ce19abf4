"""Keys and signed claims of NATS' operator mode (ADR-14, and the package jwt of nats-io, v2)."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED = 18 << 3


class Keys:
    """`kind`: operator, account or user; `public` begins with O, A or U."""

    def __init__(self, kind: str) -> None:
        prefix, secret = _PREFIX[kind], secrets.token_bytes(32)
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = _packed(bytes([prefix]), self._key.public_key().public_bytes_raw())
        self.seed = _packed(bytes([_SEED | prefix >> 5, (prefix & 31) << 3]), secret)

    def signed(self, subject: str, name: str, nats: dict[str, Any]) -> str:
        """Claims on `subject`, a public key."""
        claims = {
            "jti": secrets.token_hex(16),
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {**nats, "version": 2},
        }
        told = f"{_coded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_coded(claims)}"
        return f"{told}.{_text(self._key.sign(told.encode()))}"


def creds(claims: str, seed: str) -> str:
    """The file that `nsc generate creds` writes."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{claims}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n"
        "NKEYs are sensitive and should be treated as secrets.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def _packed(prefix: bytes, raw: bytes) -> str:
    whole = prefix + raw
    whole += binascii.crc_hqx(whole, 0).to_bytes(2, "little")
    return base64.b32encode(whole).decode().rstrip("=")


def _coded(part: dict[str, Any]) -> str:
    return _text(json.dumps(part).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

"""Key pairs of the broker's logins (NATS ADR-14): the server asks for a signature of its nonce, so
that what is secret never leaves the process that has it.

A seed is ``SU…``, a public key ``U…``: base32 of a prefix, 32 bytes and their CRC-16. The `nkeys`
package of NATS has no built wheel, so Ed25519 itself is that of `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes a while, and most processes log in by password
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIZE = 32
"""Bytes of what is secret in a seed."""
_PUBLIC = 56
"""Letters of a public key."""
_SEED, _USER = 18 << 3, 20 << 3
_PREFIX = bytes((_SEED | _USER >> 5, (_USER & 31) << 3))
"""The kind stands in the seed's prefix, too, shifted by five bits."""


_FRAMED = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+([A-Za-z0-9][\w.-]*)\s+-{3,}END")
"""A part of a file of NATS' credentials."""


class NoSeed(ValueError):
    """The text is no seed of a user. It is not repeated, as it may be one that was cut."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`public`: ``U…``, which the broker knows. `claims`: what it is to know it by instead, in
    NATS' operator mode: a JWT."""

    public: str
    _secret: bytes = field(repr=False)
    _key: Ed25519PrivateKey = field(repr=False)
    claims: str = field(default="", repr=False)

    @property
    def seed(self) -> str:
        """``SU…``, for a file of mode 0600."""
        return _packed(_PREFIX + self._secret)

    @property
    def secret(self) -> bytes:
        """The seed's 32 bytes."""
        return self._secret

    def sign(self, nonce: str) -> bytes:
        """What the server wants to see of its nonce, in base64."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def make() -> KeyPair:
    return of(secrets.token_bytes(SIZE))


def of(secret: bytes) -> KeyPair:
    """The pair of these 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(secret)
    public = _packed(bytes((_USER,)) + key.public_key().public_bytes_raw())
    return KeyPair(public, secret, key)


def read(seed: str) -> KeyPair:
    """The pair of a seed. Raises NoSeed."""
    text = seed.strip()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (ValueError, TypeError):
        raise NoSeed("a seed has letters from A to Z and digits from 2 to 7") from None
    head, secret, crc = raw[:2], raw[2:-2], raw[-2:]
    if head != _PREFIX or len(secret) != SIZE:
        raise NoSeed("a seed of a user begins with SU and has 58 letters")
    # Base32 has bits to spare at its end, so that two texts may be one seed: only one is right.
    if _crc(raw[:-2]) != crc or _packed(raw[:-2]) != text:
        raise NoSeed("a letter of the seed is wrong")
    return of(secret)


def is_public(text: object) -> bool:
    """Whether it is the public key of a user. The broker takes none of its configuration if one in
    it is not."""
    if type(text) is not str or len(text) != _PUBLIC:
        return False
    try:
        raw = base64.b32decode(text)
    except ValueError:
        return False
    return raw[0] == _USER and _packed(raw[:-2]) == text


def credentials(text: str) -> KeyPair:
    """The pair of a file that `nsc generate creds` writes, with its claims. Raises NoSeed."""
    found = dict(_FRAMED.findall(text))
    if not {"NATS USER JWT", "USER NKEY SEED"} <= found.keys():
        raise NoSeed("credentials have a NATS USER JWT and a USER NKEY SEED")
    return replace(read(found["USER NKEY SEED"]), claims=found["NATS USER JWT"])


def _packed(raw: bytes) -> str:
    return base64.b32encode(raw + _crc(raw)).decode().rstrip("=")


def _crc(raw: bytes) -> bytes:
    """CRC-16/XMODEM, as ADR-14 says, the low byte first."""
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")

"""The text that `headrace node invite` prints and `--join` takes. Pure.

``hrj1_`` and base64url of a packed list and six bytes of its SHA-256, so that a cut or altered
token is told of before anybody is asked. The number in the prefix is that of the form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgpack

from schemas import nkeys
from schemas.jobs import CodecError

PREFIX = "hrj1_"
LONGEST = 4096
"""Letters of a token; one with three addresses has 200."""
MOST_ADDRESSES = 8
SCHEMES = ("tls", "wss", "nats", "ws")
_SUM = 6
_FINGERPRINT = 32
_ADDRESS = 256
_WORD = 256


class BadToken(CodecError):
    """The token cannot be used; the message says why, and never repeats it."""


@dataclass(frozen=True, slots=True)
class Token:
    """`addresses` of the hub's broker, as tls://host:4222, the best one first; `fingerprint`: the
    SHA-256 of its CA's certificate, empty for one that every machine knows; `secret`: the 32 bytes
    of the invite's key; `role` and `name` that the node will have; `expires`: Unix seconds."""

    addresses: tuple[str, ...]
    fingerprint: bytes
    invite: str
    secret: bytes = field(repr=False)
    role: str
    name: str
    expires: int

    def pack(self) -> str:
        raw: bytes = msgpack.packb(
            [
                list(self.addresses),
                self.fingerprint,
                self.invite,
                self.secret,
                self.role,
                self.name,
                self.expires,
            ]
        )
        return PREFIX + _text(raw + _sum(raw))


def unpack(text: str) -> Token:
    """Raises BadToken. Spaces and line ends do not count: terminals wrap what is pasted."""
    bare = "".join(text.split())
    if not bare:
        raise BadToken("the token is empty")
    found = re.match(r"hrj(\d+)_", bare)
    if found is None:
        raise BadToken(f"that is no token, which begins with {PREFIX}: copy the whole of it")
    if found[0] != PREFIX:
        raise BadToken(f"the token is of another release ({found[0]}): update this machine")
    if len(bare) > LONGEST:
        raise BadToken("the token is too long: copy it alone, without what stands around it")
    return _read(_whole(bare.removeprefix(PREFIX)))


def _whole(text: str) -> bytes:
    """What the text packs, if it is as it was made. Raises BadToken."""
    altered = BadToken("the token is cut or altered: copy the whole of it, or ask for a new one")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise altered from None
    body, told = raw[:-_SUM], raw[-_SUM:]
    # Its last letter may have bits to spare, so that two texts would say the same.
    if _sum(body) != told or _text(raw) != text:
        raise altered
    return body


def _read(raw: bytes) -> Token:
    """Raises BadToken for what no invite says."""
    try:
        addresses, *rest = msgpack.unpackb(raw)
        found = Token(tuple(addresses), *rest)
        _check(found)
    except (ValueError, TypeError, msgpack.UnpackException) as fault:
        raise BadToken(f"the token is none that an invite makes: {fault}") from None
    return found


def _check(token: Token) -> None:
    """Raises ValueError."""
    if not 0 < len(token.addresses) <= MOST_ADDRESSES:
        raise ValueError("it has no address, or too many")
    for address in token.addresses:
        parts = urlsplit(address) if type(address) is str and len(address) <= _ADDRESS else None
        if parts is None or parts.scheme not in SCHEMES or not parts.hostname or "@" in address:
            raise ValueError("one of its addresses is none")
    if type(token.fingerprint) is not bytes or len(token.fingerprint) not in (0, _FINGERPRINT):
        raise ValueError("its fingerprint is none")
    if type(token.secret) is not bytes or len(token.secret) != nkeys.SIZE:
        raise ValueError("its secret is none")
    words = (token.invite, token.role, token.name)
    if not all(type(word) is str and 0 < len(word) <= _WORD for word in words):
        raise ValueError("a word of it is missing")
    if type(token.expires) is not int:
        raise ValueError("it does not say until when it is good")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _sum(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()[:_SUM]

"""Generated pictures at short-lived addresses. The newest are kept in memory.

An address carries the picture's name, the time it expires, and a signature over both (HMAC-SHA256).
So nobody needs a key to see a picture, can guess an address, or can use it longer than it was made
for. The secret is that of this ingress: it is gone with it, as the pictures are.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import Forbidden

PATH = "/v1/images/files"


@dataclass(frozen=True, slots=True)
class Kept:
    """`until`: seconds of the Unix epoch."""

    content: bytes
    content_type: str
    until: float


class PictureStore:
    """`limit`: bytes of all pictures. `age`: seconds for which each is kept at most. `clock`: tells
    seconds of the Unix epoch. `secret`: what addresses are signed with; `first`: what names begin
    with, as they say which of several processes keeps a picture."""

    def __init__(
        self,
        limit: int,
        age: float,
        clock: Callable[[], float],
        secret: bytes = b"",
        first: str = "",
    ) -> None:
        self.limit = limit
        self._age = age
        self._clock = clock
        self._secret = secret or secrets.token_bytes(32)
        self._first = first
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.size = 0

    def put(self, content: bytes, content_type: str) -> str:
        """Keep a picture, whatever its size; older ones make room. Returns the path and query of
        its address."""
        now = self._clock()
        self._drop(lambda oldest: oldest.until <= now or self.size + len(content) > self.limit)
        name = f"{self._first}{secrets.token_urlsafe(16)}.{content_type.rpartition('/')[2]}"
        until = math.ceil(now + self._age)
        self._kept[name] = Kept(content, content_type, until)
        self.size += len(content)
        return f"{PATH}/{name}?expires={until}&signature={self._sign(name, str(until))}"

    def get(self, name: str, expires: str, signature: str) -> Kept | None:
        """A kept picture; None for one that had to make room, or that another process may keep.
        Raises Forbidden for an address that is forged or expired."""
        signed = self._sign(name, expires)
        if not hmac.compare_digest(signed.encode(), signature.encode("utf-8", "replace")):
            raise Forbidden("The signature does not fit this address.")
        if self._clock() >= int(expires):
            raise Forbidden("The address has expired; have the picture made again.")
        return self.find(name)

    def find(self, name: str) -> Kept | None:
        """A kept picture, for who need not show its address."""
        now = self._clock()
        self._drop(lambda oldest: oldest.until <= now)
        return self._kept.get(name)

    def left(self, kept: Kept) -> int:
        """Whole seconds until a picture expires."""
        return max(0, int(kept.until - self._clock()))

    def _sign(self, name: str, expires: str) -> str:
        """The signature. Neither part has a line break, so no other pair has the same one."""
        message = f"{name}\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def _drop(self, unwanted: Callable[[Kept], bool]) -> None:
        """Drop the oldest picture, again and again while it is unwanted."""
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if not unwanted(oldest):
                return
            del self._kept[name]
            self.size -= len(oldest.content)

"""Who is signed in, and the links by which one signs in. Pure.

Links and sessions are known by the SHA-256 of what was given out: neither a file that was read nor
the time that a look-up takes tells anything of it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

LINK_BYTES = 16
LINK_AGE = 600.0
"""Seconds that a link is good for."""
MOST_LINKS = 32
"""Links that are not used yet; the oldest are dropped for new ones."""
_SESSION_BYTES = 24
IDLE = 12 * 3600.0
"""Seconds after which a session ends that nobody uses. An open page uses it."""
LONGEST = 7 * 86_400.0
"""Seconds after which each session ends."""
MOST_SESSIONS = 256
"""At once; the one that was used longest ago ends for a new one."""
MOST_OF_ONE = 16
"""Of these with one key, so that nobody ends the sessions of others."""

Links = Mapping[str, float]
"""By digest: until when one is good, in Unix seconds."""


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def make_link(links: Links, now: float) -> tuple[str, Links]:
    """A new token, and all links that are good then."""
    token = secrets.token_urlsafe(LINK_BYTES)
    kept = sorted(_good(links, now).items(), key=lambda each: each[1])[1 - MOST_LINKS :]
    return token, {**dict(kept), digest(token): now + LINK_AGE}


def use_link(links: Links, token: str, now: float) -> tuple[bool, Links]:
    """Whether the token is good, and the links that are left: it is good once."""
    good, used = _good(links, now), digest(token)
    return used in good, {known: until for known, until in good.items() if known != used}


def _good(links: Links, now: float) -> dict[str, float]:
    # One that ends later than any can was written by a clock that was wrong.
    return {known: until for known, until in links.items() if now < until <= now + LINK_AGE}


@dataclass(slots=True)
class _Kept(Generic[T]):
    value: T = field(repr=False)
    key: str
    began: float
    used: float


class Sessions(Generic[T]):
    """`clock`: seconds. `ended` is called with what each session had that ends."""

    def __init__(self, clock: Callable[[], float], ended: Callable[[T], None]) -> None:
        self._clock = clock
        self._ended = ended
        self._by_digest: dict[str, _Kept[T]] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def __iter__(self) -> Iterator[T]:
        return (kept.value for kept in list(self._by_digest.values()))

    def open(self, value: T, key: str) -> str:
        """The new session's id: a secret, for a cookie. `key`: the same for all sessions of one
        key."""
        self.sweep()
        own = [known for known, kept in self._by_digest.items() if kept.key == key]
        for known in sorted(own, key=self._used)[: max(0, len(own) + 1 - MOST_OF_ONE)]:
            self._end(known)
        while len(self._by_digest) >= MOST_SESSIONS:
            self._end(min(self._by_digest, key=self._used))
        id, now = secrets.token_urlsafe(_SESSION_BYTES), self._clock()
        self._by_digest[digest(id)] = _Kept(value, key, now, now)
        return id

    def find(self, id: str) -> T | None:
        """What the session has, which counts as used by this."""
        known = digest(id)
        kept = self._by_digest.get(known)
        if kept is None:
            return None
        if self._is_over(kept):
            self._end(known)
            return None
        kept.used = self._clock()
        return kept.value

    def touch(self, value: T) -> None:
        """It is used now."""
        for kept in self._by_digest.values():
            if kept.value is value:
                kept.used = self._clock()

    def close(self, value: T) -> None:
        for known, kept in list(self._by_digest.items()):
            if kept.value is value:
                self._end(known)

    def sweep(self) -> None:
        """End those whose time is over."""
        for known, kept in list(self._by_digest.items()):
            if self._is_over(kept):
                self._end(known)

    def _used(self, known: str) -> float:
        return self._by_digest[known].used

    def _is_over(self, kept: _Kept[T]) -> bool:
        now = self._clock()
        return now - kept.used > IDLE or now - kept.began > LONGEST

    def _end(self, known: str) -> None:
        self._ended(self._by_digest.pop(known).value)

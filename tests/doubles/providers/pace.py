"""How fast a simulated provider answers, how much, and what it allows per window."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class Pace:
    """`head_s`: until the head. `first_s`: from there to the first token. `token_s`: from token to
    token. `tokens`: how many an answer has, None for as many as its prompt has words; a request's
    own limit cuts it. `per_event`: tokens in one event of a stream. `reasoning`: tokens thought
    and billed before the first. `cached`: tokens of each prompt that come from the cache.
    While `may_answer` is clear, no head is sent; while `may_generate` is, no token comes.
    """

    head_s: float = 0.0
    first_s: float = 0.0
    token_s: float = 0.0
    tokens: int | None = None
    per_event: int = 1
    reasoning: int = 0
    cached: int = 0
    may_answer: asyncio.Event = field(default_factory=_open)
    may_generate: asyncio.Event = field(default_factory=_open)

    async def head(self, more_s: float) -> None:
        await self.may_answer.wait()
        if self.head_s + more_s:
            await asyncio.sleep(self.head_s + more_s)

    async def first(self) -> None:
        await self.may_generate.wait()
        if self.first_s:
            await asyncio.sleep(self.first_s)

    async def token(self, count: int, rest: bool) -> None:
        """`count` tokens' time; `rest`: they are not the first, which `first_s` stands for."""
        await self.may_generate.wait()
        steps = count if rest else count - 1
        if self.token_s and steps > 0:
            await asyncio.sleep(self.token_s * steps)


@dataclass(slots=True)
class Limits:
    """What an account may send in each window of `window_s` seconds; more is a 429."""

    requests: int = 10_000
    tokens: int = 2_000_000
    window_s: float = 60.0
    requests_left: int = 10_000
    tokens_left: int = 2_000_000
    _began: float = float("-inf")

    def set(self, requests: int = 10_000, tokens: int = 2_000_000, window_s: float = 60.0) -> None:
        """Begins with a fresh window."""
        self.requests, self.tokens, self.window_s = requests, tokens, window_s
        self._began = float("-inf")

    @property
    def reset_s(self) -> float:
        """Until the window ends."""
        return max(0.0, self._began + self.window_s - time.monotonic())

    def take(self, tokens: int) -> str:
        """One request with `tokens` of prompt; "requests" or "tokens" if there is no room."""
        if not self.reset_s:
            self._began = time.monotonic()
            self.requests_left, self.tokens_left = self.requests, self.tokens
        if self.requests_left < 1:
            return "requests"
        if self.tokens_left < tokens:
            return "tokens"
        self.requests_left -= 1
        self.tokens_left -= tokens
        return ""


def duration(seconds: float) -> str:
    """As Go writes it, and so these headers: ``20ms``, ``8.64s``, ``6m0s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"

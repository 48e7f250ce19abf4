"""The slots, the queue and the pace of the double of llama-server."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import deque
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol

import orjson

from tests.doubles.base import words_of
from tests.doubles.llamacpp import pages, wire

KEPT_EVENTS = 200_000
Event = Literal["start", "first", "end", "abort"]


@dataclass(frozen=True)
class Settings:
    """`token_ms`: time of one token, also of the first. `tokens`: of a reply, unless asked for
    fewer. `burst`: a streamed reply is one write, not one for each token; only without a pace.
    `parrot`: a chat says what its last message says, a word a token, or "hi". `continues`: a chat
    whose last message is an assistant's goes on behind that. `thoughts`: a chat begins with so many
    tokens of thoughts."""

    slots: int = 32
    token_ms: float = 0.0
    tokens: int = 32
    burst: bool = False
    parrot: bool = False
    continues: bool = False
    thoughts: int = 0
    model: str = "own"

    def __post_init__(self) -> None:
        if self.slots < 1 or self.tokens < 1 or self.token_ms < 0:
            raise ValueError("slots and tokens start at 1, token_ms at 0")
        if self.burst and self.token_ms:
            raise ValueError("a burst has no pace: token_ms must be 0")


class Link(Protocol):
    """The connection that a job answers on; `keep`: whether it stays open after the reply."""

    keep: bool

    def write(self, data: bytes) -> None: ...

    def finished(self) -> None: ...


class Refused(ValueError):
    """The request is answered with 400 and this message."""


class Job:
    """One request for tokens, from its arrival to its last byte."""

    __slots__ = (
        "body", "decoded", "ends", "gone", "ident", "label", "link", "number", "shape", "slot",
        "started", "stream", "timer",
    )  # fmt: skip

    def __init__(self, link: Link, asked: dict[str, Any], kind: wire.Kind, use: Settings) -> None:
        self.link, self.number, self.slot = link, -1, -1
        self.ident = "chatcmpl-" + secrets.token_hex(16)
        self.label = asked.get("user")
        self.stream = bool(asked.get("stream"))
        options = asked.get("stream_options") or {}
        limit = _limit(asked)
        finish: Literal["stop", "length"] = "stop" if limit is None else "length"
        words = _words(asked) if use.parrot and kind == "chat" else ()
        begun = _begun(asked) if use.continues and kind == "chat" else 0
        thoughts = use.thoughts if kind == "chat" else 0
        most = max(1, (len(words) or use.tokens) - begun)
        tokens = most if limit is None else min(limit, most)
        count = bool(options.get("include_usage"))
        pace = use.model, use.token_ms
        self.shape = wire.Shape(kind, tokens, finish, count, *pace, words, begun, thoughts)
        self.body: bytes = b""
        self.ends: tuple[int, ...] = ()
        self.decoded = 0
        self.started = 0.0
        self.gone = False
        self.timer: asyncio.Handle | None = None


def _words(asked: dict[str, Any]) -> tuple[str, ...]:
    """What a parrot says: the words of the last message."""
    last = asked["messages"][-1] if asked["messages"] else {}
    return tuple(words_of(last.get("content"))) or ("hi",)


def _begun(asked: dict[str, Any]) -> int:
    """Tokens of an answer that is to be continued. Thoughts stay open if no text is behind them."""
    last = asked["messages"][-1] if asked["messages"] else {}
    if last.get("role") != "assistant":
        return 0
    text, thoughts = words_of(last.get("content")), words_of(last.get("reasoning_content"))
    return len(thoughts) + len(text) + bool(thoughts and text)


def _limit(asked: dict[str, Any]) -> int | None:
    """Tokens asked for, or None for as many as there are."""
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        limit = asked.get(name)
        if limit is None or limit == -1:
            continue
        if not isinstance(limit, int) or limit < -1:
            wanted = "Value must be between -1 <= value <= 2147483647"
            raise Refused(f"Field '{name}': {wanted}, but got {limit}")
        return max(1, limit)
    return None


class Engine:
    """The slots, the queue before them, and the record of what happened."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[Job] = deque()
        self.busy: dict[int, Job] = {}
        self.free = list(range(settings.slots))[::-1]
        self.counts = pages.Counts()
        self.events: deque[tuple[int, float, Event, str, str | None]] = deque(maxlen=KEPT_EVENTS)
        self.seen, self.numbers = itertools.count(1), itertools.count()

    def reset(self, changes: dict[str, Any]) -> None:
        """Take other settings for the requests to come; raises ValueError, also for `slots`."""
        if unknown := set(changes) - {field.name for field in fields(Settings)} | (
            {"slots"} & set(changes)
        ):
            raise ValueError(f"cannot set {sorted(unknown)}")
        self.settings = replace(self.settings, **changes)

    def note(self, event: Event, job: Job) -> None:
        """Record `event`; a job's label is the `user` of its request."""
        self.events.append((next(self.seen), time.monotonic(), event, job.ident, job.label))

    def submit(self, job: Job) -> None:
        """Queue `job`, and start it at once if a slot is free."""
        self.waiting.append(job)
        self._pump()

    def _pump(self) -> None:
        while self.waiting and self.free:
            job = self.waiting.popleft()
            if job.gone:
                self.note("abort", job)
            else:
                self._start(job)

    def _start(self, job: Job) -> None:
        job.slot, job.number = self.free.pop(), next(self.numbers)
        self.busy[job.slot] = job
        job.started = self.loop.time()
        self.note("start", job)
        if not job.stream:
            spent = job.shape.predicted * job.shape.token_ms / 1000
            job.timer = self.loop.call_at(job.started + spent, self._finish, job)
            return
        job.body, job.ends = wire.chunks(job.shape, job.ident)
        if self.settings.burst:
            self.note("first", job)
            self._finish(job)
        else:
            job.link.write(wire.stream_head(job.link.keep))
            self._next(job)

    def _next(self, job: Job) -> None:
        """Call `_token` at the time of the next token; without a pace, in the next turn."""
        if pace := job.shape.token_ms:
            due = job.started + (job.decoded + 1) * pace / 1000
            job.timer = self.loop.call_at(due, self._token, job)
        else:
            job.timer = self.loop.call_soon(self._token, job)

    def _token(self, job: Job) -> None:
        if job.decoded == job.shape.tokens:
            self._finish(job)
            return
        begin = job.ends[job.decoded - 1] if job.decoded else 0
        if not job.decoded:
            self.note("first", job)
        job.link.write(job.body[begin : job.ends[job.decoded]])
        job.decoded += 1
        if job.decoded == job.shape.predicted:
            self._finish(job)
        else:
            self._next(job)

    def _finish(self, job: Job) -> None:
        keep = job.link.keep
        if not job.stream:
            body = wire.reply(job.shape, job.ident)
            job.link.write(wire.head(200, len(body), keep) + body)
        elif job.decoded:
            job.link.write(job.body[job.ends[-1] :])
        else:
            job.link.write(wire.stream_head(keep) + job.body)
        self.note("end", job)
        self.counts.prompt += wire.PROMPT_TOKENS
        self.counts.tokens += job.shape.predicted
        self.counts.seconds += self.loop.time() - job.started
        self._release(job)
        job.link.finished()

    def _release(self, job: Job) -> None:
        del self.busy[job.slot]
        self.free.append(job.slot)
        if self.waiting:
            self.loop.call_soon(self._pump)

    def drop(self, job: Job) -> None:
        """The client of `job` has gone."""
        job.gone = True
        if job.slot < 0 or not job.stream:
            return
        if job.timer:
            job.timer.cancel()
        self.note("abort", job)
        self._release(job)

    def slots_page(self) -> list[dict[str, Any]]:
        """The body of `GET /slots`."""
        tasks = ((slot, _busy(job)) for slot, job in self.busy.items())
        return pages.slots(self.settings.slots, tasks, wire.PROMPT_TOKENS)

    def events_page(self, after: int) -> bytes:
        """The events with a `seq` above `after`, as a JSON list."""
        names = ("seq", "t_monotonic", "event", "id", "label")
        return orjson.dumps([dict(zip(names, e, strict=True)) for e in self.events if e[0] > after])


def _busy(job: Job) -> pages.Busy:
    return pages.Busy(job.number, job.shape.tokens, job.decoded, job.stream)

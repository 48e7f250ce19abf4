"""Whose trace a request or a job is a part of, as W3C's Trace Context has it (level 1). Pure.

A client's trace comes by HTTP headers, travels with the job as headers of NATS, and goes by HTTP
headers to whoever does the job. This is so whether or not Headrace itself tells of spans, which is
in `schemas/otel/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from random import getrandbits  # ids are no secrets, and a fork has other ones

PARENT, STATE = "traceparent", "tracestate"
ATTEMPTS = "Headrace-Spans"
"""The header of a job whose ingress tells of its attempts, as spans."""
SAMPLED = 0x01
MOST_STATE = 512
"""Letters of a trace's state: what others must pass on at least."""
_PARENT, _STATE = PARENT.encode(), STATE.encode()
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_WRITTEN = re.compile(r"[\x20-\x7e]*")
_ZEROS = 16 * "0"
_FIRST, _NONE = "00", "ff"
"""The version that is spoken here, and one that is not to be."""
_SOME = 1 << 64 | 1
"""Neither half of these bits is 0."""
_OWN = 1 << 56
"""Above a nonce, so that no span's id is 0."""


@dataclass(slots=True)
class Trace:
    """A place in a trace. `id`: 32 hex digits; `span`: 16, that of the span under which things are
    done now. `sampled`: whether spans are told of. `state`: what others' systems say of it.
    `attempts`: the ingress tells of the attempts at its job."""

    id: str
    span: str
    sampled: bool
    state: str = ""
    attempts: bool = False

    @property
    def parent(self) -> str:
        """As the header `traceparent` has it."""
        return f"{_FIRST}-{self.id}-{self.span}-{SAMPLED if self.sampled else 0:02x}"

    def within(self, span: str) -> Trace:
        """The place under another span of the trace."""
        return Trace(self.id, span, self.sampled, self.state, self.attempts)

    def of_job(self) -> dict[str, str]:
        """The headers of a job."""
        found = {PARENT: self.parent}
        if self.state:
            found[STATE] = self.state
        if self.attempts:
            found[ATTEMPTS] = "attempt"
        return found

    def lines(self) -> str:
        """The lines for the head of an HTTP request."""
        state = f"{STATE}: {self.state}\r\n" if self.state else ""
        return f"{PARENT}: {self.parent}\r\n{state}"


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""Of the request or the attempt that the running task works for."""


def read(parent: str, state: str = "") -> Trace | None:
    """The trace in the values of both headers; None for what is not right, which counts as none."""
    found = _FORM.fullmatch(parent.strip())
    if found is None:
        return None
    version, id, span, flags, more = found.groups()
    if version == _NONE or (version == _FIRST and more) or span == _ZEROS or id == 2 * _ZEROS:
        return None
    if state:
        good = len(state) <= MOST_STATE and _WRITTEN.fullmatch(state)
        state = state.strip() if good else ""
    return Trace(id, span, bool(int(flags, 16) & SAMPLED), state)


def of_request(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace of an HTTP request, by its headers in lower case. Two parents are none."""
    parents, states = list[str](), list[str]()
    for name, value in headers:
        if name == _PARENT:
            parents.append(value.decode("latin-1"))
        elif name == _STATE:
            states.append(value.decode("latin-1"))
    return read(parents[0], ",".join(states)) if len(parents) == 1 else None


def of_job(headers: Mapping[str, str]) -> Trace | None:
    """The trace of a job, by the headers of its message."""
    found = read(headers.get(PARENT, ""), headers.get(STATE, ""))
    if found is not None:
        found.attempts = ATTEMPTS in headers
    return found


def new_span() -> str:
    return f"{getrandbits(64) or 1:016x}"


def new_trace() -> tuple[str, str]:
    """The id of a trace, and that of its first span."""
    both = f"{getrandbits(192) | _SOME:048x}"
    return both[:32], both[32:]


def attempt_span(nonce: int) -> str:
    """The span of an attempt. Ingress and holder know its nonce, and so both know the span: who is
    lost tells of nothing, and the ingress tells of all attempts."""
    return f"{_OWN | nonce:016x}"

"""One request as OpenTelemetry sees it: what is gathered of it while it runs, and the spans and
measures that are made of this once it is over.

The spans: ``chat {model}`` for the request; below that ``queue`` for each time that a job of it
waited, and ``attempt`` for each that had the job, whose own processes tell the rest below
(`workers/traced.py`, `fallback/traced.py`). No prompt and no answer is in any.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request

from ingress.jobs.custody import Custody
from ingress.jobs.ended import Ended
from ingress.jobs.state import TAIL
from ingress.jobs.ticket import Ticket
from schemas import traces
from schemas.api.endpoints import BY_PATH, OLLAMA, VERSION, Endpoint
from schemas.otel import words
from schemas.otel.words import Attributes, Kind, Value, What, When
from schemas.traces import CURRENT, Trace

if TYPE_CHECKING:
    from schemas.otel.meters import Meters
    from schemas.otel.spans import Spans
    from schemas.otel.telemetry import Telemetry

SERVED = "headrace.served"
"""A request's state has what is gathered of it under this name."""
WHOLE = "headrace"
"""Who the clients' provider is, in the words of the conventions."""
SERVER_FAULT = 500
MOST = 1024
"""Pieces of spans that are kept, of each sort."""
_NAME = b'_reason"'
_REASON = re.compile(rb'_reason": ?"([a-z_]{1,40})"')


Had = tuple[str, float, float, bool, int]
"""Who had a job, as a `Tenure` has it."""


class Job(NamedTuple):
    """One job of a request that is over. `tail`: the end of its answer."""

    ended: Ended
    custody: Custody
    tail: bytes


class Served:
    """One request; while it is answered, its trace is the current one. `trace`: where its own span
    is; `caller`: that of its client, if it has one."""

    __slots__ = (
        "_began", "_clock", "_jobs", "_path", "_telemetry", "_token", "_took", "caller", "endpoint",
        "error", "id", "model", "status", "trace",
    )  # fmt: skip

    def __init__(self, telemetry: Telemetry, request: Request) -> None:
        scope = request.scope
        self.caller: Trace | None = None
        if traces.PARENT in request.headers:
            self.caller = traces.of_request(scope["headers"])
        self.trace = telemetry.begin(self.caller)
        state = scope["state"]
        state[SERVED] = self
        self.id: str = state["id"]
        """As its answer has it."""
        self.model = ""
        """As the client named it, once it is known that there is such a model."""
        self.endpoint: Endpoint | None = None
        self.status = 0
        self.error = ""
        self._telemetry = telemetry
        self._path: str = scope["path"]
        self._jobs: list[Job] = []
        self._took = 0.0
        self._began, self._clock = time.time_ns(), time.monotonic()

    def __enter__(self) -> None:
        self._token = CURRENT.set(self.trace)

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self._token)
        self._took = time.monotonic() - self._clock
        self._telemetry.ended(self)

    def add(self, ended: Ended, ticket: Ticket) -> None:
        """A job of the request is over."""
        self._jobs.append(Job(ended, ticket.custody, ticket.received.tail[-TAIL:]))

    # Afterwards.

    def tell(self, spans: Spans, meters: Meters) -> None:
        self._conclude()
        if self.trace.attempts:
            self._tell_request(spans)
            for job in self._jobs:
                self._tell_job(spans, job)
        self._measure(meters)

    def _conclude(self) -> None:
        """A stream that failed was answered with 200 before."""
        for job in self._jobs:
            self.error = self.error or job.ended.line.get("error", "")
            self.status = max(self.status, job.ended.line["status"])

    def _when(self, begin: float, end: float) -> When:
        """Of monotonic seconds."""
        since, began = self._clock, self._began
        return began + int((begin - since) * 1e9), began + int((end - since) * 1e9)

    def _tell_request(self, spans: Spans) -> None:
        line, facts = self._line(), _OF_NONE
        if line:
            reasons = tuple([reason for job in self._jobs if (reason := _reason(job))])
            facts = line["model"], bool(line["stream"]), line["key"], line["attempts"], reasons
        failed = self.status >= SERVER_FAULT or (self.error and self.status < 400)
        error = self.error or str(self.status) if failed else ""
        refused = "" if failed else self.error
        what = _request(self._operation, self.model, self._path, self.status, refused, *facts)
        more: list[tuple[str, Value]] = [("headrace.request.id", self.id)]
        for field, name in _COUNTED:
            if field in line:
                more.append((name, line[field]))
        if "ttft_ms" in line and line["stream"]:
            more.append((words.FIRST_CHUNK, line["ttft_ms"] / 1000))
        caller = self.caller or Trace(self.trace.id, "", True)
        when, remote = self._when(self._clock, self._clock + self._took), self.caller is not None
        spans.add(what, caller, self.trace.span, when, more, error, remote)

    def _line(self) -> Mapping[str, Any]:
        """What the log says of its job; of several, as there are in a list of prompts, the first
        with the sums of all. Empty if there was none."""
        if len(self._jobs) == 1:
            return self._jobs[0].ended.line
        lines = [job.ended.line for job in self._jobs]
        summed = ("attempts", *(field for field, _ in _COUNTED))
        sums = {
            field: sum(counts)
            for field in summed
            if (counts := [line[field] for line in lines if field in line])
        }
        return {**lines[0], **sums} if lines else {}

    def _tell_job(self, spans: Spans, job: Job) -> None:
        ended, holder = job.ended, job.custody.holder
        lane, waited = ended.line["lane"], ended.times.queued
        for each in ended.lost:
            self._tell_wait(spans, lane, waited, each.since)
            self._tell_attempt(spans, ended, each, "lost")
            waited = each.until
        for each in job.custody.raced:
            until = each.until or ended.times.first or ended.at
            self._tell_attempt(spans, ended, each._replace(until=until), "outrun")
        if holder is None:
            self._tell_wait(spans, lane, waited, ended.at)
            return
        self._tell_wait(spans, lane, waited, holder.since)
        claim = holder.claim
        last = claim.node, holder.since, ended.at, claim.by_provider, holder.nonce
        self._tell_attempt(spans, ended, last, ended.line.get("error", ""))

    def _tell_wait(self, spans: Spans, lane: str, since: float, until: float) -> None:
        if until > since:
            when = self._when(since, until)
            spans.add(_queue(lane), self.trace, traces.new_span(), when)

    def _tell_attempt(self, spans: Spans, ended: Ended, had: Had, error: str) -> None:
        node, since, until, by_provider, nonce = had
        first, event = ended.times.first, None
        if since <= first <= until:
            event = "first_token", self._when(first, first)[0]
        what, when = _attempt(node, by_provider), self._when(since, until)
        span = traces.attempt_span(nonce)
        spans.add(what, self.trace, span, when, (), error, False, event)

    @property
    def _operation(self) -> str:
        """What is done, as `gen_ai.operation.name` has it."""
        return _operation(self.endpoint.path if self.endpoint is not None else self._path)

    def _measure(self, meters: Meters) -> None:
        line: Mapping[str, Any] = self._jobs[0].ended.line if self._jobs else {}
        about = _measured(self._operation, self.model, line.get("model", ""), self.error)
        found = [(words.DURATION, self._took)]
        if not self.error and "ttft_ms" in line and line["stream"]:
            first, tokens = line["ttft_ms"] / 1000, line.get("completion_tokens", 0)
            found.append((words.FIRST_TOKEN, first))
            # Of a stream that was continued, not all tokens need be in this number.
            if tokens > 1 and not self._jobs[0].ended.lost:
                found.append((words.PER_TOKEN, (line["ms"] / 1000 - first) / (tokens - 1)))
        meters.observe(about, *found)


@contextmanager
def passed_on(request: Request) -> Iterator[None]:
    """While it is answered, the trace of its client is the current one, and nothing is told."""
    token = CURRENT.set(traces.of_request(request.scope["headers"]))
    try:
        yield
    finally:
        CURRENT.reset(token)


_COUNTED = (
    ("prompt_tokens", words.INPUT),
    ("completion_tokens", words.OUTPUT),
    ("cached_tokens", words.CACHED),
)


Facts = tuple[str, bool, str, int, tuple[str, ...]]
_OF_NONE: Facts = "", False, "", 0, ()
"""The facts of `_request` about a request that had no job."""


@lru_cache(MOST)
def _operation(path: str) -> str:
    found = BY_PATH.get(path) or BY_PATH.get(f"{VERSION}{path}")
    word = found.word if found is not None else path.removeprefix(f"{OLLAMA}/").rpartition("/")[2]
    return words.operation(word)


def _reason(job: Job) -> str:
    """Why its answer ended; "" if it does not say so near its end."""
    at = len(job.tail)
    while (at := job.tail.rfind(_NAME, 0, at)) >= 0:
        if found := _REASON.match(job.tail, at):
            return found[1].decode()
    return ""


@lru_cache(MOST)
def _measured(operation: str, asked: str, model: str, error: str) -> Attributes:
    found = [(words.OPERATION, operation), (words.PROVIDER, WHOLE)]
    named = (words.ASKED, asked), (words.ANSWERED, model), (words.ERROR, error)
    return (*found, *(pair for pair in named if pair[1]))


@lru_cache(MOST)
def _request(
    operation: str,
    model: str,
    path: str,
    status: int,
    refused: str,
    answered: str,
    stream: bool,
    key: str,
    attempts: int,
    reasons: tuple[str, ...],
) -> What:
    """`refused`: the code of an error that is the client's own fault."""
    found: list[tuple[str, Value]] = [
        *_measured(operation, model, answered, refused),
        ("http.request.method", "POST"),
        ("url.path", path),
        ("http.response.status_code", status),
    ]
    if answered:
        found += [(words.STREAM, stream), ("headrace.key", key), ("headrace.attempts", attempts)]
    if reasons:
        found.append((words.REASONS, reasons))
    return What(f"{operation} {model}".rstrip(), Kind.SERVER, tuple(found))


@lru_cache(MOST)
def _queue(lane: str) -> What:
    return What("queue", Kind.INTERNAL, (("headrace.lane", lane),))


@lru_cache(MOST)
def _attempt(node: str, by_provider: bool) -> What:
    by = "provider" if by_provider else "worker"
    return What("attempt", Kind.INTERNAL, (("headrace.by", by), ("headrace.node", node)))

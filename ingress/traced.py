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
from contextvars import Token
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request

from ingress.jobs.custody import Custody, Tenure
from ingress.jobs.state import Ended
from ingress.jobs.ticket import Ticket
from schemas import traces
from schemas.api.endpoints import BY_PATH, OLLAMA, VERSION, Endpoint
from schemas.otel import words
from schemas.traces import CURRENT, Trace

if TYPE_CHECKING:
    from schemas.otel.meters import Meters
    from schemas.otel.spans import Attributes, Spans, What
    from schemas.otel.telemetry import Telemetry

SERVED = "headrace.served"
"""A request's state has what is gathered of it under this name."""
WHOLE = "headrace"
"""Who the clients' provider is, in the words of the conventions."""
SERVER_FAULT = 500
MOST = 1024
"""Pieces of spans that are kept, of each sort."""
TAIL = 2048
"""Last bytes of an answer, in which the reason is looked for why it ended."""
_REASON = re.compile(rb'"(?:finish|stop|done)_reason": ?"([a-z_]{1,40})"')


class Job(NamedTuple):
    """One job of a request that is over. `tail`: the end of its answer."""

    ended: Ended
    custody: Custody
    tail: bytes


class Served:
    """One request. `trace`: where its own span is; `caller`: that of its client, if it has one."""

    __slots__ = (
        "_began", "_clock", "_jobs", "_path", "_took", "caller", "endpoint", "error", "id", "model",
        "status", "trace",
    )  # fmt: skip

    def __init__(self, trace: Trace, caller: Trace | None, path: str, id: str) -> None:
        """`id`: as its answer has it."""
        self.trace = trace
        self.caller = caller
        self.id = id
        self.model = ""
        """As the client named it, once it is known that there is such a model."""
        self.endpoint: Endpoint | None = None
        self.status = 0
        self.error = ""
        self._path = path
        self._jobs: list[Job] = []
        self._began, self._clock = time.time_ns(), time.monotonic()
        self._took = 0.0

    def add(self, ended: Ended, ticket: Ticket) -> None:
        """A job of the request is over."""
        self._jobs.append(Job(ended, ticket.custody, ticket.received.tail[-TAIL:]))

    def over(self) -> None:
        self._took = time.monotonic() - self._clock

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

    def _at(self, moment: float) -> int:
        """Nanoseconds of the Unix epoch, of monotonic seconds."""
        return self._began + round((moment - self._clock) * 1e9)

    def _tell_request(self, spans: Spans) -> None:
        from schemas.otel.spans import When

        operation = operation_of(self.endpoint, self._path)
        what = _request(operation, self.model, self._path)
        caller = self.caller or Trace(self.trace.id, "", True)
        failed = self.status >= SERVER_FAULT or (self.error and self.status < 400)
        more = [*self._facts()]
        if self.error and not failed:
            more.append((words.ERROR, self.error))
        spans.add(
            what,
            caller,
            self.trace.span,
            When(self._began, self._at(self._clock + self._took)),
            tuple(more),
            error=self.error or str(self.status) if failed else "",
            remote=self.caller is not None,
        )

    def _facts(self) -> Iterator[tuple[str, Any]]:
        yield "http.response.status_code", self.status
        yield "headrace.request.id", self.id
        if not self._jobs:
            return
        lines = [job.ended.line for job in self._jobs]
        first = lines[0]
        yield words.ANSWERED, first["model"]
        yield "gen_ai.request.stream", bool(first["stream"])
        yield "headrace.key", first["key"]
        yield "headrace.attempts", sum(line["attempts"] for line in lines)
        for field, name in _COUNTED:
            if counts := [line[field] for line in lines if field in line]:
                yield name, sum(counts)
        if first["stream"] and "ttft_ms" in first:
            yield "gen_ai.response.time_to_first_chunk", first["ttft_ms"] / 1000
        if reasons := tuple(_reason(job.tail) for job in self._jobs if _reason(job.tail)):
            yield "gen_ai.response.finish_reasons", reasons

    def _tell_job(self, spans: Spans, job: Job) -> None:
        from schemas.otel.spans import When

        ended, queue = job.ended, _step("queue", job.ended.line["lane"])
        holder = job.custody.holder
        since = [each.since for each in ended.lost]
        since.append(holder.since if holder is not None else ended.at)
        free = [ended.times.queued, *(each.until for each in ended.lost)]
        for waited, taken in zip(free, since, strict=True):
            if taken > waited:
                when = When(self._at(waited), self._at(taken))
                spans.add(queue, self.trace, traces.new_span(), when)
        for each in ended.lost:
            self._tell_attempt(spans, job, each, "lost")
        for each in job.custody.raced:
            until = each.until or ended.times.first or ended.at
            self._tell_attempt(spans, job, each._replace(until=until), "outrun")
        if holder is not None:
            claim = holder.claim
            last = Tenure(claim.node, holder.since, ended.at, claim.by_provider, holder.nonce)
            self._tell_attempt(spans, job, last, ended.line.get("error", ""))

    def _tell_attempt(self, spans: Spans, job: Job, had: Tenure, error: str) -> None:
        from schemas.otel.spans import When

        what = _step("attempt", "provider" if had.by_provider else "worker")
        when = When(self._at(had.since), self._at(had.until))
        first = job.ended.times.first
        events = (("first_token", self._at(first)),) if had.since <= first <= had.until else ()
        span = traces.attempt_span(had.nonce)
        more = (("headrace.node", had.node),)
        spans.add(what, self.trace, span, when, more, error=error, events=events)

    def _measure(self, meters: Meters) -> None:
        from schemas.otel import meters as known

        line: Mapping[str, Any] = self._jobs[0].ended.line if self._jobs else {}
        operation = operation_of(self.endpoint, self._path)
        about = _measured(operation, self.model, line.get("model", ""), self.error)
        meters.observe(known.DURATION, self._took, about)
        if self.error or not line.get("stream") or "ttft_ms" not in line:
            return
        first, tokens = line["ttft_ms"] / 1000, line.get("completion_tokens", 0)
        meters.observe(known.FIRST_TOKEN, first, about)
        if tokens > 1:
            meters.observe(known.PER_TOKEN, (line["ms"] / 1000 - first) / (tokens - 1), about)


class tracing:  # noqa: N801 - it is used as a function, and is one tenth of what that would cost
    """While a request is answered, its trace is the current one. Without `telemetry`, that is its
    client's own, which is passed on."""

    __slots__ = ("_served", "_telemetry", "_token", "_trace")

    def __init__(self, telemetry: Telemetry | None, request: Request) -> None:
        caller = traces.of_request(request.scope["headers"])
        self._telemetry = telemetry
        self._served: Served | None = None
        self._token: Token[Trace | None] | None = None
        if telemetry is None:
            self._trace = caller
            return
        self._trace = telemetry.begin(caller)
        state = request.scope["state"]
        self._served = Served(self._trace, caller, request.scope["path"], state["id"])
        state[SERVED] = self._served

    def __enter__(self) -> None:
        self._token = CURRENT.set(self._trace)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
        if self._telemetry is not None and self._served is not None:
            self._served.over()
            self._telemetry.ended(self._served)


_COUNTED = (
    ("prompt_tokens", words.INPUT),
    ("completion_tokens", words.OUTPUT),
    ("cached_tokens", words.CACHED),
)


def operation_of(endpoint: Endpoint | None, path: str) -> str:
    """What is done, as `gen_ai.operation.name` has it."""
    found = endpoint or BY_PATH.get(path) or BY_PATH.get(f"{VERSION}{path}")
    word = found.word if found is not None else path.removeprefix(f"{OLLAMA}/").rpartition("/")[2]
    return words.operation(word)


def _reason(tail: bytes) -> str:
    found = _REASON.findall(tail)
    return found[-1].decode() if found else ""


@lru_cache(MOST)
def _known(operation: str, model: str) -> Attributes:
    found = (words.OPERATION, operation), (words.PROVIDER, WHOLE)
    return (*found, (words.ASKED, model)) if model else found


@lru_cache(MOST)
def _measured(operation: str, asked: str, model: str, error: str) -> Attributes:
    found = [*_known(operation, asked)]
    if model:
        found.append((words.ANSWERED, model))
    if error:
        found.append((words.ERROR, error))
    return tuple(found)


@lru_cache(MOST)
def _request(operation: str, model: str, path: str) -> What:
    from schemas.otel.spans import Kind, What

    name = f"{operation} {model}".rstrip()
    http = ("http.request.method", "POST"), ("url.path", path)
    return What(name, Kind.SERVER, (*_known(operation, model), *http))


@lru_cache(MOST)
def _step(name: str, told: str) -> What:
    """Of a job: `told` is its lane, or who has it."""
    from schemas.otel.spans import Kind, What

    field = "headrace.lane" if name == "queue" else "headrace.by"
    return What(name, Kind.INTERNAL, ((field, told),))

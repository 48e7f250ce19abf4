"""An attempt as OpenTelemetry sees it: ``claim``, until its ingress has granted the job, and
``engine``, the call that gives the answer. The ingress tells of the attempt itself, as this process
may be lost. The engine gets the trace with the place of its own span, if it speaks HTTP."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from schemas import settings, traces
from schemas.api.endpoints import WORDS
from schemas.otel import words
from schemas.otel.words import Attributes, Kind, Value, What
from schemas.traces import CURRENT, Trace
from workers.attempt import Attempt

if TYPE_CHECKING:
    from schemas.otel.meters import Meters
    from schemas.otel.spans import Spans
    from schemas.otel.telemetry import Telemetry

MOST = 1024
"""Pieces of spans that are kept, of each sort."""
Place = tuple[str, str, int]
"""An engine's kind, host and port."""
_NOWHERE: Place = "", "", 0


class Worked:
    """One attempt. Times are monotonic seconds. `span`: the engine's; "" if providers are asked,
    which have spans of their own. `place`: where the engine is. It waits to be told of, so it has
    no attempt: this would hold its body and its ring until then."""

    __slots__ = (
        "_at", "_began", "_granted", "_job", "_number", "_place", "_stamp", "_used", "began",
        "ended", "outcome", "span",
    )  # fmt: skip

    def __init__(self, at: Trace, span: str, place: Place) -> None:
        self._at = at
        self._place = place
        self._stamp = time.time_ns() - time.monotonic_ns()
        self.span = span
        self.began = time.monotonic()
        self.ended = self._began = self._granted = 0.0
        self.outcome = ""
        self._number = 0
        self._job = "", ""
        self._used: Attributes = ()

    def end(self, attempt: Attempt, outcome: str) -> None:
        """Keep what is told of the attempt."""
        self.ended, self.outcome = time.monotonic(), outcome
        self._number, self._began, self._granted = attempt.number, attempt.began, attempt.granted
        self._job = attempt.job.endpoint, attempt.job.model
        if not self._granted:  # so nobody tells of the attempt
            self._at = attempt.trace or self._at
        if (end := attempt.ended) is not None:
            self._used = words.used(end.prompt_tokens, end.completion_tokens, end.cached_tokens)

    def tell(self, spans: Spans, meters: Meters) -> None:
        trace, stamp = self._at, self._stamp
        if granted := self._granted:
            began = min(self._began, granted)
            when = stamp + int(began * 1e9), stamp + int(granted * 1e9)
            spans.add(_claim(self._number), trace, traces.new_span(), when, (), "", True)
        if not self.span:
            return
        when = stamp + int(self.began * 1e9), stamp + int(self.ended * 1e9)
        error = "" if self.outcome == "ok" else self.outcome.replace(" ", "_")
        what = _engine(*self._job, self._place)
        spans.add(what, trace, self.span, when, self._used, error, True)


class Tracer:
    """Of one process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._places: dict[str, Place] = {}

    def know(self, engine: settings.Engine) -> None:
        """An engine that is started, for its address. Calls of others have no span here."""
        self._places[engine.name] = _place(engine)

    def begin(self, attempt: Attempt, at: Trace, engine: str) -> Trace:
        """The place in the trace for what the engine does."""
        if not (at.sampled and self.telemetry.spans):
            return at
        place = self._places.get(engine)
        span = "" if place is None else traces.new_span()
        attempt.worked = Worked(at, span, place or _NOWHERE)
        return at.within(span) if span else at

    def end(self, attempt: Attempt, outcome: str) -> None:
        if (worked := attempt.worked) is not None:
            worked.end(attempt, outcome)
            self.telemetry.ended(worked)


def follow(attempt: Attempt, tracer: Tracer | None, engine: str) -> None:
    """Make the trace of an attempt that of the running task."""
    trace = attempt.trace
    if trace is None:
        return
    at = trace.within(traces.attempt_span(attempt.nonce)) if trace.attempts else trace
    CURRENT.set(at if tracer is None else tracer.begin(attempt, at, engine))


def _place(engine: settings.Engine) -> Place:
    if not engine.url:
        return engine.kind, "", 0
    parts = urlsplit(engine.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return engine.kind, parts.hostname or "", port


@lru_cache(MOST)
def _claim(number: int) -> What:
    return What("claim", Kind.INTERNAL, (("headrace.delivery", number),))


@lru_cache(MOST)
def _engine(endpoint: str, model: str, place: Place) -> What:
    kind, host, port = place
    found: list[tuple[str, Value]] = [
        (words.OPERATION, words.operation(WORDS.get(endpoint, ""))),
        (words.PROVIDER, kind),
        (words.ASKED, model),
    ]
    if host:
        found += [(words.SERVER, host), ("server.port", port)]
    return What("engine", Kind.CLIENT, tuple(found))

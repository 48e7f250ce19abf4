"""A call of a provider as OpenTelemetry sees it: its span, and what it used. The provider gets the
trace with the place of that span, and nothing that others' systems say of it (`tracestate`)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from fallback.cost.spent import Spent
from fallback.providers.base import ProviderFault, Task
from schemas import traces
from schemas.api.endpoints import WORDS
from schemas.otel import words
from schemas.otel.words import Attributes, Kind, What
from schemas.traces import CURRENT, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.otel.meters import Meters
    from schemas.otel.spans import Spans
    from schemas.otel.telemetry import Telemetry

MOST = 1024
"""Pieces of spans that are kept, of each sort."""
_NAMES = {"google": "gcp.gemini"}
"""What the conventions call kinds of providers, where it is another word."""


class Called:
    """One call. `at`: where in a trace it is, if in one; `spent`: what it used; `error`: why it
    failed, in one word."""

    __slots__ = ("_at", "_began", "_host", "_kind", "_model", "_took", "_word", "error", "span",
                 "spent")  # fmt: skip

    def __init__(self, at: Trace | None, task: Task, kind: str, host: str) -> None:
        self._at = at
        self._kind = _NAMES.get(kind, kind)
        self._host = host
        self._word = WORDS.get(task.job.endpoint, "")
        self._model = task.model
        self._began, self._took = time.time_ns(), -time.monotonic()
        self.span = traces.new_span()
        self.spent: Spent | None = None
        self.error = ""

    def over(self) -> None:
        self._took += time.monotonic()

    def tell(self, spans: Spans, meters: Meters) -> None:
        operation = words.operation(self._word)
        about = _about(operation, self._kind, self._model, self._host)
        if self._at is not None and self._at.sampled:
            self._tell_span(spans, _call(operation, self._model, about))
        self._measure(meters, about)

    def _tell_span(self, spans: Spans, what: What) -> None:
        assert self._at is not None
        when = self._began, self._began + round(self._took * 1e9)
        spent = self.spent
        used = () if spent is None else words.used(spent.prompt, spent.completion, spent.cached)
        spans.add(what, self._at, self.span, when, used, self.error)

    def _measure(self, meters: Meters, about: Attributes) -> None:
        failed: Attributes = ((words.ERROR, self.error),) if self.error else ()
        meters.observe((*about, *failed), (words.CALLS, self._took))
        if self.spent is not None:
            counts = ("input", self.spent.prompt), ("output", self.spent.completion)
            for kind, count in counts:
                if count > 0:
                    meters.observe((*about, (words.TOKEN_TYPE, kind)), (words.USAGE, count))


@contextmanager
def called(telemetry: Telemetry, task: Task, kind: str, host: str) -> Iterator[Called]:
    """Around a call. `kind`: the provider's; `host`: where it is."""
    at = CURRENT.get()
    made = Called(at if telemetry.spans else None, task, kind, host)
    sampled = at is not None and at.sampled and telemetry.spans
    token = CURRENT.set(at.within(made.span)) if at is not None and sampled else None
    try:
        yield made
    except ProviderFault as fault:
        made.error = fault.reason
        raise
    except BaseException:
        made.error = "cancelled"
        raise
    finally:
        if token is not None:
            CURRENT.reset(token)
        made.over()
        telemetry.ended(made)


@lru_cache(MOST)
def _about(operation: str, kind: str, model: str, host: str) -> Attributes:
    found = [(words.OPERATION, operation), (words.PROVIDER, kind), (words.ASKED, model)]
    if host:
        found.append((words.SERVER, host))
    return tuple(found)


@lru_cache(MOST)
def _call(operation: str, model: str, about: Attributes) -> What:
    return What(f"{operation} {model}".lstrip(), Kind.CLIENT, about)

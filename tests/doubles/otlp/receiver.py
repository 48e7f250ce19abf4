"""A receiver of OTLP over HTTP. It reads what comes with the protocol's own package, and keeps it
for tests to look at and wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Packed

PATIENCE = 60.0
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """Ids are hex digits; `parent` is "" for the first of a trace. Times are nanoseconds."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    failed: bool
    attributes: Attributes
    events: tuple[str, ...]
    state: str


@dataclass(frozen=True)
class Point:
    """One series of a histogram, as it was told last."""

    name: str
    unit: str
    attributes: Attributes
    count: int
    sum: float
    buckets: tuple[int, ...]
    bounds: tuple[float, ...]


@dataclass
class Receiver:
    """`statuses`: of the next answers; 200 once they are used up."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    points: dict[tuple[str, str], Point] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    resources: list[Attributes] = field(default_factory=list)
    calls: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def traces(self, request: web.Request) -> web.Response:
        body = await self._taken(request)
        if body is not None:
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        return self._answer(body)

    async def metrics(self, request: web.Request) -> web.Response:
        body = await self._taken(request)
        if body is not None:
            self._take_points(ExportMetricsServiceRequest.FromString(body))
        return self._answer(body)

    async def until(self, enough: Callable[[Receiver], object]) -> None:
        """Wait until it is true of what has come."""
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                self.news.clear()
                await self.news.wait()

    async def counted(self, metric: str, count: int) -> None:
        """Wait until so much was measured in all."""
        await self.until(lambda it: sum(each.count for each in it.metric(metric)) == count)

    async def named(self, *names: str) -> list[Span]:
        """Wait until there is a span of each name, as often as it is named; all spans of the first
        one's trace, by their beginning."""

        def found() -> bool:
            have = [span.name for span in self.spans]
            return all(have.count(name) >= names.count(name) for name in names)

        await self.until(lambda _: found())
        first = next(span for span in self.spans if span.name == names[0])
        return self.of(first.trace)

    def of(self, trace: str) -> list[Span]:
        return sorted((s for s in self.spans if s.trace == trace), key=lambda span: span.begin)

    async def _taken(self, request: web.Request) -> bytes | None:
        assert request.content_type == "application/x-protobuf"
        self.calls += 1
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        self._status = self.statuses.pop(0) if self.statuses else 200
        return body if self._status == 200 else None

    def _answer(self, body: bytes | None) -> web.Response:
        self.news.set()
        return web.Response(status=self._status, text="" if body is not None else "not now")

    def _take_spans(self, request: Any) -> None:
        for of_process in request.resource_spans:
            about = _attributes(of_process.resource.attributes)
            self.resources.append(about)
            for of_scope in of_process.scope_spans:
                assert of_scope.scope.name == "headrace"
                found = [_span(str(about["service.name"]), span) for span in of_scope.spans]
                self.spans.extend(found)
        ids = [(span.trace, span.id) for span in self.spans]
        assert len(ids) == len(set(ids)), "one span was told twice"

    def _take_points(self, request: Any) -> None:
        for of_process in request.resource_metrics:
            service = str(_attributes(of_process.resource.attributes)["service.name"])
            for metric in (m for scope in of_process.scope_metrics for m in scope.metrics):
                for point in metric.histogram.data_points:
                    made = _point(metric, point)
                    key = f"{service} {sorted(made.attributes.items())}"
                    self.points[made.name, key] = made

    def metric(self, name: str) -> list[Point]:
        return [point for (known, _), point in self.points.items() if known == name]


def _span(service: str, span: Packed) -> Span:
    return Span(
        service,
        span.name,
        Packed.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _attributes(span.attributes),
        tuple(event.name for event in span.events),
        span.trace_state,
    )


def _point(metric: Any, point: Any) -> Point:
    assert sum(point.bucket_counts) == point.count
    return Point(
        metric.name,
        metric.unit,
        _attributes(point.attributes),
        point.count,
        point.sum,
        tuple(point.bucket_counts),
        tuple(point.explicit_bounds),
    )


def _attributes(pairs: Iterable[Any]) -> Attributes:
    return {each.key: _value(each.value) for each in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(each) for each in value.array_value.values)
    return getattr(value, kind)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", made.traces)
    app.router.add_post("/v1/metrics", made.metrics)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made

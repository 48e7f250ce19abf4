"""The metrics that OpenTelemetry's conventions for generative AI have, as OTLP's histograms. Pure.

The names, units and bounds are those of the conventions: docs/gen-ai/gen-ai-metrics.md there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from schemas.otel.spans import SCOPE, Attributes, pair, resource_of

MOST_SERIES = 2000
"""Series of one metric; all others are one together, as OpenTelemetry's specification has it."""
OVERFLOW: Attributes = (("otel.metric.overflow", True),)
_EACH = 32
"""Series that are packed at once."""


class Meter(NamedTuple):
    """`bounds`: the upper ends of all buckets but the last."""

    name: str
    unit: str
    about: str
    bounds: tuple[float, ...]


_TIMES = tuple(0.01 * 2**power for power in range(14))
DURATION = Meter(
    "gen_ai.server.request.duration", "s", "Request received to last byte sent.", _TIMES
)
FIRST_TOKEN = Meter(
    "gen_ai.server.time_to_first_token",
    "s",
    "Request received to first byte of the answer.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = Meter(
    "gen_ai.server.time_per_output_token",
    "s",
    "Time of each token behind the first.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
CALLS = Meter("gen_ai.client.operation.duration", "s", "Calls of providers.", _TIMES)
USAGE = Meter(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens that calls of providers used.",
    tuple(4.0**power for power in range(14)),
)


@dataclass(slots=True)
class _Series:
    counts: list[int]
    total: float = 0.0
    least: float = field(default=float("inf"))
    most: float = 0.0


class Meters:
    """What was measured since the start. `began`: nanoseconds of the Unix epoch."""

    def __init__(self, resource: Mapping[str, str], version: str, began: int) -> None:
        self._resource = resource_of(resource)
        self._version = version
        self._began = began
        self._found: dict[Meter, dict[Attributes, _Series]] = {}

    def observe(self, meter: Meter, value: float, attributes: Attributes) -> None:
        found = self._found.setdefault(meter, {})
        series = found.get(attributes)
        if series is None:
            if len(found) >= MOST_SERIES:
                attributes = OVERFLOW
            series = found.setdefault(attributes, _Series([0] * (len(meter.bounds) + 1)))
        series.counts[bisect_left(meter.bounds, value)] += 1
        series.total += value
        series.least, series.most = min(series.least, value), max(series.most, value)

    def take(self, now: int) -> Iterator[bytes]:
        """All of them, in pieces that can be joined."""
        for meter, found in self._found.items():
            left = iter(list(found.items()))
            while some := list(islice(left, _EACH)):
                yield self._packed(meter, some, now)

    def _packed(self, meter: Meter, some: list[tuple[Attributes, _Series]], now: int) -> bytes:
        request = ExportMetricsServiceRequest()
        of_process = request.resource_metrics.add(resource=self._resource)
        of_scope = of_process.scope_metrics.add()
        of_scope.scope.name, of_scope.scope.version = SCOPE, self._version
        made = of_scope.metrics.add(name=meter.name, unit=meter.unit, description=meter.about)
        made.histogram.aggregation_temporality = (
            AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        )
        for attributes, series in some:
            made.histogram.data_points.add(
                attributes=[pair(name, value) for name, value in attributes],
                start_time_unix_nano=self._began,
                time_unix_nano=now,
                count=sum(series.counts),
                sum=series.total,
                bucket_counts=series.counts,
                explicit_bounds=meter.bounds,
                min=series.least,
                max=series.most,
            )
        packed: bytes = request.SerializeToString()
        return packed

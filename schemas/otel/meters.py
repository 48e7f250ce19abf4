"""What was measured, as histograms in the words of OTLP. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from schemas.otel.spans import SCOPE, pairs, resource_of
from schemas.otel.words import Attributes, Meter

MOST_SERIES = 2000
"""Sets of attributes; all others are one together, as OpenTelemetry's specification has it."""
OVERFLOW: Attributes = (("otel.metric.overflow", True),)
_EACH = 32
"""Series that are packed at once."""


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
        self._found: dict[Attributes, dict[Meter, _Series]] = {}

    def observe(self, attributes: Attributes, *found: tuple[Meter, float]) -> None:
        """Count what was measured of one request or call."""
        known = self._found.get(attributes)
        if known is None:
            if len(self._found) >= MOST_SERIES:
                attributes = OVERFLOW
            known = self._found.setdefault(attributes, {})
        for meter, value in found:
            series = known.get(meter)
            if series is None:
                series = known[meter] = _Series([0] * (len(meter.bounds) + 1))
            series.counts[bisect_left(meter.bounds, value)] += 1
            series.total += value
            series.least = min(series.least, value)
            series.most = max(series.most, value)

    def take(self, now: int) -> Iterator[bytes]:
        """All of them, in pieces that can be joined."""
        by_meter: dict[Meter, list[tuple[Attributes, _Series]]] = {}
        for attributes, known in self._found.items():
            for meter, series in known.items():
                by_meter.setdefault(meter, []).append((attributes, series))
        for meter, found in by_meter.items():
            left = iter(found)
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
                attributes=pairs(attributes),
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

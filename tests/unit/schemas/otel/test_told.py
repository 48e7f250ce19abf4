"""Spans and measures as the protocol's own package reads them."""

from __future__ import annotations

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from schemas.otel import meters, packed
from schemas.otel.meters import Meters
from schemas.otel.spans import Spans
from schemas.otel.words import DURATION, PER_TOKEN, Kind, What
from schemas.traces import Trace

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "a=1")
ABOUT = {"service.name": "headrace-ingress"}
OWN = "0102030405060708"


def test_a_span_has_all_that_was_said() -> None:
    made = Spans(ABOUT, "1.0")
    what = What("chat m", Kind.SERVER, (("text", "x"), ("several", ("a", "b")), ("flag", True)))
    more = ("number", 7), ("part", 0.5)
    made.add(what, TRACE, OWN, (10, 20), more, error="bad", remote=True, event=("first", 15))
    found = ExportTraceServiceRequest.FromString(made.take())
    [of_process] = found.resource_spans
    assert of_process.resource.attributes[0].value.string_value == "headrace-ingress"
    [span] = of_process.scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE.id, OWN)
    assert (span.parent_span_id.hex(), span.trace_state) == (TRACE.span, "a=1")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (10, 20)
    assert (span.name, span.kind, span.status.code) == ("chat m", span.SPAN_KIND_SERVER, 2)
    assert span.flags == 0x301
    by_name = {each.key: each.value for each in span.attributes}
    assert list(by_name) == ["text", "several", "flag", "number", "part", "error.type"]
    assert [each.string_value for each in by_name["several"].array_value.values] == ["a", "b"]
    assert (by_name["flag"].bool_value, by_name["number"].int_value) == (True, 7)
    assert [(event.name, event.time_unix_nano) for event in span.events] == [("first", 15)]


def test_pieces_can_be_joined() -> None:
    made, what = Spans(ABOUT, "1.0"), What("queue", Kind.INTERNAL)
    pieces = []
    for _ in range(2):
        made.add(what, TRACE, OWN, (1, 2))
        assert len(made) == 1
        pieces.append(made.take())
    assert len(made) == 0
    found = ExportTraceServiceRequest.FromString(b"".join(pieces))
    assert [len(each.scope_spans[0].spans) for each in found.resource_spans] == [1, 1]


def test_texts_of_clients_are_cut_and_made_whole() -> None:
    made = Spans(ABOUT, "1.0")
    more = ("long", "x" * 10_000), ("half", "\ud800")
    made.add(What("a", Kind.CLIENT), Trace(TRACE.id, "", True), OWN, (5, 1), more)
    [span] = (
        ExportTraceServiceRequest.FromString(made.take()).resource_spans[0].scope_spans[0].spans
    )
    assert [len(each.value.string_value) for each in span.attributes] == [packed.MOST_TEXT, 1]
    assert span.parent_span_id == b""
    assert span.end_time_unix_nano == 5, "a span that ends before it begins"


def read(made: Meters) -> dict[str, list[tuple[int, float, list[int]]]]:
    found: dict[str, list[tuple[int, float, list[int]]]] = {}
    request = ExportMetricsServiceRequest.FromString(b"".join(made.take(9)))
    for of_process in request.resource_metrics:
        for metric in of_process.scope_metrics[0].metrics:
            for point in metric.histogram.data_points:
                told = point.count, point.sum, list(point.bucket_counts)
                found.setdefault(metric.name, []).append(told)
                assert (point.start_time_unix_nano, point.time_unix_nano) == (1, 9)
    return found


def test_a_bound_is_in_its_bucket() -> None:
    made = Meters(ABOUT, "1.0", 1)
    for value in (0.01, 0.011, 99.0):
        made.observe((("model", "m"),), (DURATION, value))
    [(count, total, buckets)] = read(made)[DURATION.name]
    assert (count, round(total, 3)) == (3, 99.021)
    assert (buckets[:2], buckets[-1], len(buckets)) == ([1, 1], 1, len(DURATION.bounds) + 1)


def test_there_is_a_bound_to_series() -> None:
    made = Meters(ABOUT, "1.0", 1)
    for number in range(meters.MOST_SERIES + 5):
        made.observe((("model", str(number)),), (DURATION, 1.0), (PER_TOKEN, 1.0))
    found = read(made)
    for meter in (DURATION, PER_TOKEN):
        assert len(found[meter.name]) == meters.MOST_SERIES + 1
        assert sum(count for count, *_ in found[meter.name]) == meters.MOST_SERIES + 5

"""What is written by hand is what the protocol's own package writes and reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from schemas.otel import packed
from schemas.otel.spans import Spans
from schemas.otel.words import Kind, Value, What
from schemas.traces import Trace

NUMBERS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.text(max_size=300), NUMBERS, st.floats(allow_nan=False), st.booleans(),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
)  # fmt: skip
HEX = st.integers(1, 2**63)


@given(st.text("abc._", min_size=1, max_size=200), VALUES)
def test_an_attribute_is_that_of_the_package(name: str, value: Value) -> None:
    made = Span()
    packed.fill(made.attributes, ((name, value),))
    assert packed.attribute(name, value) == made.SerializeToString()


@pytest.mark.parametrize("number", [0, 127, 128, 2**14 - 1, 2**14, 2**21, 2**63 - 1])
def test_numbers_of_each_size(number: int) -> None:
    assert Span.FromString(b"\x50" + packed.size(number)).dropped_attributes_count == (
        number % 2**32
    )


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_that_is_too_large_is_an_error(number: int) -> None:
    with pytest.raises(ValueError, match="range"):
        packed.attribute("n", number)


@given(st.lists(st.tuples(HEX, HEX, st.dictionaries(st.text("abc", min_size=1), VALUES))))
def test_a_request_is_read_by_the_package(
    all: list[tuple[int, int, dict[str, Value]]],
) -> None:
    made = Spans({"service.name": "x"}, "1.0")
    for begin, id, more in all:
        trace = Trace(f"{id:032x}", f"{begin:016x}", True, "a=1")
        what = What("w", Kind.CLIENT)
        made.add(what, trace, f"{id:016x}", (begin, begin + 1), tuple(more.items()))
    [of_process] = ExportTraceServiceRequest.FromString(made.take()).resource_spans
    [of_scope] = of_process.scope_spans
    assert of_scope.scope.name == "headrace"
    for span, (begin, id, more) in zip(of_scope.spans, all, strict=True):
        assert (int(span.trace_id.hex(), 16), int(span.span_id.hex(), 16)) == (id, id)
        assert int(span.parent_span_id.hex(), 16) == begin
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (begin, begin + 1)
        assert [each.key for each in span.attributes] == list(more)

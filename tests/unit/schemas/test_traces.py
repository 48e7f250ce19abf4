"""W3C's Trace Context: what is a trace, what is none, and how it is passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import traces
from schemas.traces import Trace

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True)])
def test_a_parent_is_read(flags: str, sampled: bool) -> None:
    assert traces.read(f"00-{ID}-{SPAN}-{flags}") == Trace(ID, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"00-{ID}-{SPAN}-0",
        f"00-{ID[:-1]}-{SPAN}-01",
        f"01-{ID}-{SPAN}-01more",
    ],
)
def test_what_is_none_counts_as_none(text: str) -> None:
    assert traces.read(text) is None


def test_a_later_version_may_have_more() -> None:
    assert traces.read(f"01-{ID}-{SPAN}-01-more") == Trace(ID, SPAN, True)
    assert traces.read(f"01-{ID}-{SPAN}-01") == Trace(ID, SPAN, True)


def test_states_are_joined_and_bad_ones_dropped() -> None:
    parent = b"traceparent", f"00-{ID}-{SPAN}-01".encode()
    two = [parent, (b"tracestate", b"a=1"), (b"x", b"y"), (b"tracestate", b"b=2")]
    assert traces.of_request(two) == Trace(ID, SPAN, True, "a=1,b=2")
    for bad in (b"a=\xe4", b"a=" + b"x" * traces.MOST_STATE, b"a=1\r\nX-Evil: 1"):
        assert traces.of_request([parent, (b"tracestate", bad)]) == Trace(ID, SPAN, True)


def test_two_parents_are_none() -> None:
    parent = b"traceparent", f"00-{ID}-{SPAN}-01".encode()
    assert traces.of_request([parent, parent]) is None
    assert traces.of_request([]) is None


@given(
    st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.booleans(),
    st.sampled_from(["", "vendor=abc"]),
)  # fmt: skip
def test_a_job_carries_it(id: int, span: int, sampled: bool, attempts: bool, state: str) -> None:
    trace = Trace(f"{id:032x}", f"{span:016x}", sampled, state, attempts)
    assert traces.of_job(trace.of_job()) == trace


def test_an_engine_gets_it() -> None:
    trace = Trace(ID, SPAN, True, "a=1")
    assert trace.lines() == f"traceparent: 00-{ID}-{SPAN}-01\r\ntracestate: a=1\r\n"
    assert Trace(ID, SPAN, False).lines() == f"traceparent: 00-{ID}-{SPAN}-00\r\n"


@given(st.integers(0, 2**56 - 1))
def test_the_span_of_an_attempt_is_that_of_its_nonce(nonce: int) -> None:
    found = traces.attempt_span(nonce)
    assert len(found) == 16
    assert int(found, 16) > 0
    assert int(found[2:], 16) == nonce


def test_ids_have_all_their_digits() -> None:
    assert {len(traces.new_span()) for _ in range(100)} == {16}
    found = [traces.new_trace() for _ in range(100)]
    assert {(len(trace), len(span)) for trace, span in found} == {(32, 16)}
    assert len({trace for trace, _ in found}) == 100

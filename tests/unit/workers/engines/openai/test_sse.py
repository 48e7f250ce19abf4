from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.doubles.llamacpp import DATA
from workers.engines.http.connection import LinkBroken
from workers.engines.openai import sse
from workers.engines.openai.sse import Events

DONE = b"data: [DONE]\n\n"
LINES = st.sampled_from([b"data: ", b"event: x", b": ping", b"id: 1", b"retry: 5"])
TEXTS = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\r\n"))
EVENTS = st.lists(st.tuples(LINES, TEXTS).map(b"".join), min_size=1, max_size=3).map(
    lambda lines: b"\n".join(lines) + b"\n\n"
)
STREAMS = st.lists(EVENTS, max_size=8).map(b"".join)


def fed(stream: bytes, cuts: list[int]) -> tuple[Events, list[bytes]]:
    """What comes out of a stream that arrives cut at these places."""
    events = Events()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return events, [events.feed(stream[a:b]) for a, b in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=20))
@example(b"data: a\n\ndata: b\n\n", [8])
def test_however_it_is_cut_only_whole_events_come_out(stream: bytes, cuts: list[int]) -> None:
    _, pieces = fed(stream, cuts)
    assert b"".join(pieces) == stream
    assert all(not piece or piece.endswith(b"\n\n") for piece in pieces)


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=20))
def test_lines_may_end_as_in_http(stream: bytes, cuts: list[int]) -> None:
    """No stream of a server that writes so got through: its end was never seen."""
    whole, pieces = fed((stream + DONE).replace(b"\n", b"\r\n"), cuts)
    assert b"".join(pieces) == stream + DONE
    assert all(not piece or piece.endswith(b"\n\n") for piece in pieces)
    assert whole.finished


@given(STREAMS, EVENTS, st.lists(st.integers(0, 10_000), max_size=20), st.data())
def test_half_an_event_is_kept_back(
    stream: bytes, last: bytes, cuts: list[int], data: st.DataObject
) -> None:
    rest = last[: data.draw(st.integers(0, len(last) - 1))]
    _, pieces = fed(stream + rest, cuts)
    out = b"".join(pieces)
    assert (stream + rest).startswith(out)
    assert len(out) >= len(stream)
    assert not out or out.endswith(b"\n\n")


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=20))
def test_done_is_seen_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    whole, _ = fed(stream + DONE, cuts)
    assert whole.finished
    cut, _ = fed((stream + DONE)[:-3], cuts)
    assert cut.finished == stream.endswith(DONE)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"data: x\n\n",
        b'data: {"content":"data: [DONE]"}\n\n',
        b"data: [DONE]",
        b"data: [DONE]\n",
        DONE + b"data: more\n\n",
        b"data: [done]\n\n",
    ],
)
def test_a_stream_without_its_end_is_not_finished(stream: bytes) -> None:
    events, _ = fed(stream, [])
    assert not events.finished


@pytest.mark.parametrize("name", ["chat", "n2", "tools", "text_prompts"])
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
def test_recorded_streams_pass_whole(name: str, size: int) -> None:
    stream = (DATA / f"{name}.sse").read_bytes()
    events, pieces = fed(stream, list(range(0, len(stream), size)))
    assert b"".join(pieces) == stream
    assert events.finished
    assert events.tail.endswith(DONE)


@given(st.lists(EVENTS, min_size=1, max_size=60))
def test_the_tail_is_bounded_and_has_the_last_events(sent: list[bytes]) -> None:
    events = Events()
    for event in sent:
        events.feed(event)
    assert b"".join(sent).endswith(events.tail)
    assert len(sent[-1]) <= len(events.tail) <= 2048 + max(map(len, sent))


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST", 4096)
    events = Events()
    large = b"data: " + b"x" * 4000 + b"\n\n"
    assert [events.feed(large[at : at + 1000]) for at in range(0, 5000, 1000)][-1] == large
    assert [events.feed(b"x" * 1000) for _ in range(4)] == [b""] * 4
    with pytest.raises(LinkBroken, match="more than 4096 bytes"):
        events.feed(b"x" * 1000)

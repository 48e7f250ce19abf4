"""Server-sent events: every form that the standard and real servers know, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api import sse

STREAM = (
    b": hello\n\n"
    b'data: {"a":1}\n\n'
    b'event: message_start\n: inside\ndata:{"b":2}\n\n'
    b'data: {"c":\ndata: 3}\n\n'
    b"data:\n\n"
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "mark"])
@given(cuts=st.lists(st.integers(0, len(STREAM) * 2), max_size=8))
def test_whole_events_however_they_are_cut(end: bytes, mark: bytes, cuts: list[int]) -> None:
    raw = mark + STREAM.replace(b"\n", end)
    splitter, found, at = sse.Splitter(), [], 0
    for cut in sorted({min(cut, len(raw)) for cut in cuts} | {len(raw)}):
        piece = splitter.feed(raw[at:cut])
        assert not piece or piece.endswith(sse.BREAK)
        found.append(piece)
        at = cut
    assert b"".join(found) + splitter.rest() == STREAM
    assert splitter.finished


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE] \r"])
def test_an_event_may_end_with_its_stream(last: bytes) -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: 1\n\n" + last) == b"data: 1\n\n"
    assert not splitter.finished
    assert splitter.rest() == sse.DONE
    assert splitter.finished
    assert splitter.rest() == b""


@pytest.mark.parametrize(
    ("events", "finished"),
    [
        (b"data:[DONE]\n\n", True),
        (b"data:   [DONE]  \n\n", True),
        (b"data: [DONE]\n\n: bye\n\n", True),
        (b": bye\ndata: [DONE]\n\n", True),
        (b'data: "[DONE]"\n\n', False),
        (b'data: {"content":"data: [DONE]"}\n\n', False),
        (b": data: [DONE]\n\n", False),
    ],
)
def test_what_says_that_a_stream_is_over(events: bytes, finished: bool) -> None:
    splitter = sse.Splitter()
    splitter.feed(events)
    assert splitter.finished is finished


@pytest.mark.parametrize("cut", [0, 3, 18, 19, 30])
def test_nothing_comes_behind_the_end(cut: int) -> None:
    end = b"data: 1\n\ndata: [DONE]\n\n"
    said = end + b'data: [DONE]\n\ndata: {"usage":{}}\n\ndata: half'
    splitter = sse.Splitter()
    assert splitter.feed(said[:cut]) + splitter.feed(said[cut:]) + splitter.rest() == end
    assert b"usage" in splitter.tail


@pytest.mark.parametrize(
    ("answer", "is_stream"),
    [
        (b"data: {", True),
        (b"\xef\xbb\xbf\r\n: ping", True),
        (b"event:x", True),
        (b'{"data: ": 1}', False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_what_a_stream_begins_with(answer: bytes, is_stream: bool) -> None:
    assert sse.begins(answer) is is_stream


def test_an_event_without_an_end() -> None:
    splitter = sse.Splitter(largest=8)
    splitter.feed(b"data: 1")
    with pytest.raises(sse.TooLong, match="more than 8 bytes"):
        splitter.feed(b"23")


def test_the_tail_holds_the_last_event() -> None:
    splitter = sse.Splitter()
    long = b"data: %b\n\n" % (b"x" * 5000)
    splitter.feed(b"data: 1\n\n")
    splitter.feed(long)
    assert splitter.tail == long
    splitter.feed(b"data: 2\n\n")
    assert splitter.tail.endswith(b"x\n\ndata: 2\n\n")


def test_data_of_one_event() -> None:
    events = list(sse.split(STREAM))
    assert [sse.data_of(event) for event in events] == [
        None,
        b'{"a":1}',
        b'{"b":2}',
        b'{"c":\n3}',
        b"",
        b"[DONE]",
    ]
    loaded = [sse.load(event) for event in events]
    nothing = sse.NOTHING
    assert loaded == [nothing, {"a": 1}, {"b": 2}, {"c": 3}, nothing, nothing]
    assert [sse.name_of(event) for event in events] == ["", "", "message_start", "", "", ""]
    assert list(sse.objects(STREAM)) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (b'data: {"a":1}', {"a": 1}),
        (b'event: error\ndata: {"a":1}', {"type": "error", "a": 1}),
        (b'event: error\ndata: {"type":"own"}', {"type": "own"}),
        (b"event: error\ndata: broken", {"type": "error"}),
        (b"data: [DONE]", {}),
        (b": ping", {}),
    ],
)
def test_the_name_of_an_event_is_its_type(event: bytes, found: dict[str, object]) -> None:
    assert sse.typed(event) == found


def test_what_is_no_json_is_passed_over_or_told() -> None:
    assert list(sse.objects(b"data: {\n\ndata: [1]\n\ndata: {}\n\n")) == [{}]
    with pytest.raises(ValueError, match="unexpected end"):
        sse.load(b"data: {")


@pytest.mark.parametrize(
    ("events", "at"),
    [
        (b"data: 1\n\ndata: [DONE]\n\n", 9),
        (b"data:[DONE]\n\n", 0),
        (b"data: 1\n\n: bye\ndata: [DONE]\n\n", 9),
        (b"event: message_stop\ndata: {}\n\n", 0),
        (b"event: response.incomplete\ndata: {}\n\n", 0),
        (b"event: response.created\ndata: {}\n\n", -1),
        (b'data: {"text":"[DONE]"}\n\n', -1),
        (b"", -1),
    ],
)
def test_where_the_last_event_begins(events: bytes, at: int) -> None:
    assert sse.end_of(events) == at


def test_events_that_come_in_pieces_are_joined() -> None:
    joiner = sse.Joiner()
    assert joiner.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert joiner.feed(b"data: 2\n\nda") == b"data: 2\n\n"
    assert joiner.feed(b"ta: 3") == b""
    assert joiner.feed(b"\n\n") == b"data: 3\n\n"


def test_what_is_written_is_read_again() -> None:
    assert sse.write(b"1") == b"data: 1\n\n"
    assert sse.dump({"type": "ping"}, named=True) == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert sse.comment("hi") == b": hi\n\n"
    several = sse.write(b"one\ntwo", "x")
    assert (sse.name_of(several), sse.data_of(several.strip())) == ("x", b"one\ntwo")
    assert sse.is_done(b" [DONE] ")


@pytest.mark.parametrize(
    ("events", "left"),
    [
        (b": a\n\n", b""),
        (b": a\n: b\n\ndata: 1\n\n", b"data: 1\n\n"),
        (b"data: 1\n\n: a\n\ndata: 2\n\n", b"data: 1\n\ndata: 2\n\n"),
        (b"event: x\n: a\ndata: 1\n\n", b"event: x\ndata: 1\n\n"),
        (b"data: 1\n: a\n\ndata: 2\n\n", b"data: 1\n\ndata: 2\n\n"),
        (b'data: "a\\n: b"\n\n', b'data: "a\\n: b"\n\n'),
    ],
)
def test_comments_are_left_out(events: bytes, left: bytes) -> None:
    assert sse.without_comments(events) == left

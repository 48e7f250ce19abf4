from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs import resume
from ingress.jobs.resume import ResumableStream
from schemas.api import endpoints, sse

CHAT, MESSAGES = endpoints.CHAT.path, endpoints.MESSAGES.path
FIRST = {"id": "chatcmpl-1", "created": 1, "model": "m"}
SECOND = {"id": "gen-2", "created": 2, "model": "m"}
TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=6)


def chunk(delta: dict[str, Any], of: dict[str, Any] = FIRST, finish: str | None = None) -> bytes:
    return sse.dump({**of, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def chunks(texts: list[str], of: dict[str, Any]) -> list[bytes]:
    start = chunk({"role": "assistant", "content": ""}, of)
    return [start, *(chunk({"content": text}, of) for text in texts)]


def begun(endpoint: str, *pieces: bytes) -> ResumableStream:
    made = ResumableStream(endpoint)
    for piece in pieces:
        assert made.add(piece) == piece
    return made


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_a_chat_is_one_stream_with_nothing_repeated_and_nothing_missing(
    first: list[str], rest: list[str], at_once: int
) -> None:
    stream = begun(CHAT, *chunks(first, FIRST))
    assert stream.break_off()
    assert stream.begun == (len(first), "".join(first))
    pieces = [*chunks(rest, SECOND), chunk({}, SECOND, "stop"), sse.DONE]
    sent = b"".join(
        stream.add(b"".join(pieces[at : at + at_once])) for at in range(0, len(pieces), at_once)
    )
    assert sent.endswith(sse.DONE)
    told = list(sse.objects(sent))
    assert {each["id"] for each in told} == {"chatcmpl-1"}
    deltas = [each["choices"][0]["delta"] for each in told]
    assert not [delta for delta in deltas if "role" in delta]
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(rest)


def test_messages_are_continued_with_their_names() -> None:
    start = sse.dump({"type": "message_start", "message": {}}, named=True)
    kind = {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
    stream = begun(MESSAGES, start, sse.dump(kind, named=True))
    assert stream.break_off()
    last = sse.dump({"type": "message_stop"}, named=True)
    assert stream.add(start + sse.dump(kind, named=True) + last) == last


@pytest.mark.parametrize(
    "piece",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        sse.DONE,
        b"data: {broken\n\n",
        chunk({"content": "cut"})[:-9],
        b"data: [1]\n\n",
    ],
)
def test_what_is_more_than_text_is_not_continued(piece: bytes) -> None:
    stream = begun(CHAT, chunk({"role": "assistant", "content": "a"}), piece)
    assert not stream.break_off()
    assert not stream.broken


def test_comments_of_the_first_part_are_no_text() -> None:
    stream = begun(CHAT, b": keep-alive\n\n", chunk({"content": "a"}))
    assert stream.break_off()
    assert stream.begun == (1, "a")


def test_a_stream_is_continued_once() -> None:
    stream = begun(CHAT, chunk({"content": "a"}))
    assert stream.break_off()
    assert not stream.break_off()


def test_a_long_stream_is_not_kept() -> None:
    stream = begun(CHAT, chunk({"content": "x" * resume.LIMIT}), chunk({"content": "x"}))
    assert not stream.break_off()
    assert len(b"".join(stream._kept)) <= resume.LIMIT


def test_what_the_client_did_not_get_is_forgotten() -> None:
    stream = begun(CHAT, chunk({"content": "lost"}))
    stream.forget()
    stream.add(chunk({"content": "a"}))
    assert stream.break_off()
    assert stream.begun == (1, "a")


def test_comments_and_errors_pass() -> None:
    stream = begun(CHAT, chunk({"content": "a"}))
    stream.break_off()
    rest = b": x-headrace-cost 1\n\n" + sse.dump({"error": {"message": "x"}})
    assert stream.add(rest) == rest


def test_an_event_of_the_second_part_may_come_in_pieces() -> None:
    """A fallback cuts what is longer than a frame: half an event was passed on as one."""
    stream = begun(CHAT, chunk({"content": "a"}))
    assert stream.break_off()
    told = chunk({"content": "b" * 99}, SECOND)
    assert stream.add(told[:50]) == b""
    assert stream.add(told[50:]) == chunk({"content": "b" * 99})

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingress.answer.schema_stream import Held


class Reader:
    """A judge that finds fault with what does not begin with a brace."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, document: Any) -> str:
        self.seen.append(document)
        text = (document["choices"][0]["message"]["content"]) if "choices" in document else "{"
        return "" if text.startswith("{") else "no brace"


def chunk(
    content: str | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> Any:
    choice = {"index": index, "delta": {"content": content, **more}, "finish_reason": finish}
    return {"choices": [choice]}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)


async def test_texts_are_judged_choice_by_choice_where_they_end() -> None:
    reader = Reader()
    held = Held(reader, 99)
    parts = sse(chunk("{1"), chunk("{2", index=1), chunk("}", "stop"), chunk(None, "length", 1))
    assert await held.passed(parts) == parts
    assert [each["choices"][0] for each in reader.seen] == [
        {"finish_reason": "stop", "message": {"content": "{1}"}},
        {"finish_reason": "length", "message": {"content": "{2"}},
    ]
    assert held.error is None


async def test_after_a_misfit_only_comments_pass() -> None:
    held = Held(Reader(), 99)
    first = sse(chunk("no"))
    events = first + sse(chunk(None, "stop")) + b": x-headrace-cost 1\n\ndata: [DONE]\n\n"
    assert await held.passed(events) == first + b": x-headrace-cost 1\n\n"
    assert held.error is not None
    assert "no brace" in str(held.error)
    assert await held.passed(sse(chunk("more"))) == b""


async def test_calls_and_refusals_are_told_with_the_text() -> None:
    reader = Reader()
    held = Held(reader, 99)
    await held.passed(sse(chunk("{", refusal="I"), chunk(tool_calls=[{"index": 0}], finish="stop")))
    message = reader.seen[0]["choices"][0]["message"]
    assert message == {"content": "{", "refusal": "I", "tool_calls": [{"index": 0}]}


async def test_a_text_that_is_too_long_to_keep_does_not_count_as_sound() -> None:
    held = Held(Reader(), 3)
    assert await held.passed(sse(chunk("{12"), chunk("3", "stop"))) == sse(chunk("{12"))
    assert "too long" in str(held.error)


@pytest.mark.parametrize("event", [[1], {"choices": [1]}, {"type": "response.completed"}])
async def test_an_event_that_is_none_ends_the_stream(event: Any) -> None:
    held = Held(Reader(), 9)
    assert await held.passed(sse(event)) == b""
    assert held.error is not None


async def test_lines_may_end_as_in_http() -> None:
    held = Held(Reader(), 9)
    await held.passed(sse(chunk("no"), chunk(None, "stop")).replace(b"\n", b"\r\n"))
    assert held.error is not None


@pytest.mark.parametrize("size", [1, 7, 99])
async def test_an_event_may_come_in_pieces(size: int) -> None:
    """A worker cuts what is longer than a frame: each piece was passed on as an event."""
    held = Held(Reader(), 99)
    events = sse(chunk("{1"), chunk("}", "stop")) + b"data: [DONE]\n\n"
    pieces = [events[at : at + size] for at in range(0, len(events), size)]
    assert b"".join([await held.passed(piece) for piece in pieces]) == events
    assert held.error is None

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ingress.answer.schema_gate import SchemaGate
from schemas.api import sse
from schemas.api.base import Api
from schemas.api.chat.answer import API as CHAT
from schemas.api.json_format import Finished
from schemas.api.responses.answer import API as RESPONSES


async def no_brace(parts: Iterable[Finished]) -> str:
    """Finds fault with what does not begin with a brace."""
    return next(("no brace" for part in parts if not (part.text or "").startswith("{")), "")


def gate(api: Api = CHAT) -> SchemaGate:
    return SchemaGate(no_brace, api.finished_in_stream(99))


def chunk(content: str | None = None, finish: str | None = None) -> Any:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def events(*found: Any) -> bytes:
    return b"".join(map(sse.dump, found))


async def test_a_stream_that_fits_passes_as_it_is() -> None:
    opened = gate()
    parts = events(chunk("{1"), chunk("}", "stop")) + b": x\n\ndata: broken\n\n" + sse.DONE
    assert await opened.passed(parts) == parts
    assert opened.error is None


async def test_after_a_misfit_only_comments_pass() -> None:
    closed = gate()
    first = events(chunk("no"))
    rest = events(chunk(None, "stop")) + b": x-headrace-cost 1\n\n" + sse.DONE
    assert await closed.passed(first + rest) == first + b": x-headrace-cost 1\n\n"
    assert closed.error is not None
    assert "no brace" in str(closed.error)
    assert await closed.passed(events(chunk("more"))) == b""


async def test_a_comment_inside_of_an_event_hides_nothing() -> None:
    opened, closed = gate(), gate()
    end = b": ping\n" + events(chunk("}", "stop")).rstrip() + b"\n: pong\n\n"
    done = b": ping\n" + sse.DONE
    fits = events(chunk("{1")) + end + done
    assert await opened.passed(fits) == fits
    assert await closed.passed(events(chunk("no")) + end + done) == events(chunk("no"))
    assert (opened.error is None, closed.error is None) == (True, False)


async def test_the_last_event_of_a_response_is_held_back() -> None:
    def completed(text: str) -> bytes:
        item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
        response = {"status": "completed", "output": [item]}
        return sse.dump({"type": "response.completed", "response": response}, named=True)

    assert await gate(RESPONSES).passed(completed("{}")) == completed("{}")
    closed = gate(RESPONSES)
    assert await closed.passed(completed("no")) == b""
    assert closed.error is not None


@pytest.mark.parametrize(
    ("api", "event"),
    [(CHAT, {"choices": [1]}), (RESPONSES, {"type": "response.completed"})],
)
async def test_an_event_that_is_none_ends_the_stream(api: Api, event: Any) -> None:
    closed = gate(api)
    assert await closed.passed(events(event)) == b""
    assert closed.error is not None


async def test_an_event_that_is_no_object_says_nothing() -> None:
    opened = gate()
    assert await opened.passed(b"data: [1]\n\n") == b"data: [1]\n\n"
    assert opened.error is None


@pytest.mark.parametrize("size", [1, 7, 99])
async def test_an_event_may_come_in_pieces(size: int) -> None:
    """A worker cuts what is longer than a frame: each piece was passed on as an event."""
    opened = gate()
    whole = events(chunk("{1"), chunk("}", "stop")) + sse.DONE
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert b"".join([await opened.passed(piece) for piece in pieces]) == whole
    assert opened.error is None

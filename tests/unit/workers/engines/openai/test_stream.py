"""Streams of events on their way, in the words of several servers."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import sse
from schemas.api.base import Api, Usage
from schemas.api.chat.answer import API as CHAT
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.responses.answer import API as RESPONSES
from tests.doubles.base import DONE
from tests.doubles.drive import RecordingSink
from workers.engines.base import EngineFault
from workers.engines.http.connection import Response
from workers.engines.openai.stream import Relay


class Pieces(Response):
    """An answer that is read in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._left = [*pieces, b""]

    async def readany(self) -> bytes:
        return self._left.pop(0)


def named(kind: str, **fields: Any) -> bytes:
    return sse.dump({"type": kind, **fields}, named=True)


async def relayed(api: Api, *pieces: bytes, sink: RecordingSink | None = None) -> Relay:
    sink = sink or RecordingSink()
    sink.start(200, "text/event-stream")
    relay = Relay("e", api, sink)
    await relay.run(Pieces(*pieces))
    return relay


START = named(
    "message_start", message={"usage": {"cache_read_input_tokens": 31, "input_tokens": 1}}
)
STOP = named("message_stop")


async def test_it_passes_event_by_event() -> None:
    sink = RecordingSink()
    await relayed(CHAT, b"data: 1\n\nda", b"ta:", b" 2\n\n", DONE, sink=sink)
    assert sink.chunks == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert sink.touched == 1


async def test_the_tokens_of_a_prompt_may_be_told_at_the_start() -> None:
    """llama-server's way; vLLM and Ollama tell all of it at the end."""
    delta = named("message_delta", usage={"output_tokens": 12})
    whole = named("message_delta", usage={"input_tokens": 16, "output_tokens": 12})

    assert (await relayed(MESSAGES, START, delta + STOP)).usage() == Usage(32, 12, 31)
    assert (await relayed(MESSAGES, START, whole + STOP)).usage() == Usage(16, 12, 0)
    assert (await relayed(MESSAGES, delta + STOP)).usage() == Usage(-1, 12, 0)
    assert (await relayed(MESSAGES, STOP)).usage() is None


async def test_the_last_usage_counts() -> None:
    events = [sse.dump({"choices": [], "usage": {"prompt_tokens": n}}) for n in (1, 2)]
    said = sse.dump({"choices": [{"delta": {"content": '"usage": "prompt_tokens"'}}]})
    assert (await relayed(CHAT, *events, said, DONE)).usage() == Usage(2, 0, 0)


@pytest.mark.parametrize(
    ("api", "tail", "whole"),
    [
        (CHAT, DONE, True),
        (CHAT, b"data:[DONE]", True),
        (CHAT, b"data: [DO", False),
        (CHAT, STOP, False),
        (MESSAGES, STOP, True),
        (MESSAGES, STOP.rstrip(), True),
        (MESSAGES, b"event: message_stop", False),
        (RESPONSES, named("response.completed", response={}), True),
        (RESPONSES, named("response.incomplete", response={}), True),
        (RESPONSES, named("response.failed", response={}), True),
        (RESPONSES, named("response.created", response={}), False),
        (CHAT, sse.dump({"choices": [{"delta": {"content": "\ndata: [DONE]"}}]}), False),
        (CHAT, b"", False),
    ],
)
async def test_a_stream_says_itself_that_it_is_over(api: Api, tail: bytes, whole: bool) -> None:
    sink = RecordingSink()
    if whole:
        await relayed(api, b"data: {}\n\n", tail, sink=sink)
        assert sink.body == b"data: {}\n\n" + tail.rstrip() + sse.BREAK
        return
    with pytest.raises(EngineFault, match="before its end was said") as caught:
        await relayed(api, tail, sink=sink)
    assert caught.value.away
    assert sink.body in (tail, b""), "no half event"


@pytest.mark.parametrize(
    ("api", "event", "why"),
    [
        (CHAT, sse.dump({"error": "broken"}), "e: broken"),
        (CHAT, b'data:{"id":"x","error":{"message":"broken"}}\n\n', "e: broken"),
        (CHAT, b'data: {"error": {\n\n', "inside the stream"),
        (MESSAGES, named("error", error={"message": "broken"}), "e: broken"),
        (RESPONSES, named("error", message="broken"), "e: broken"),
    ],
)
async def test_what_went_before_an_error_still_passes(api: Api, event: bytes, why: str) -> None:
    sink = RecordingSink()
    good = sse.dump({"choices": [{"delta": {"content": 'data: {"error": 1}'}}], "error": None})
    with pytest.raises(EngineFault, match=why):
        await relayed(api, good + event + DONE, sink=sink)
    assert sink.body == good


async def test_an_event_without_an_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.Splitter.__init__, "__defaults__", (1000,))
    with pytest.raises(EngineFault, match="e sent an event of more than 1000 bytes") as caught:
        await relayed(CHAT, b"data: " + b"x" * 2000)
    assert caught.value.away

"""What stands between a provider's bytes and the sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from fallback.providers.base import ProviderFault
from fallback.providers.metering import EventFilter, TextCounter
from schemas.api import endpoints
from schemas.api.endpoints import Endpoint
from tests.doubles.drive import RecordingSink
from tests.unit.fallback.providers.tasks import chat


class Heard(TextCounter):
    def __init__(self) -> None:
        super().__init__(chat("m"), False)
        self.taken: list[bytes] = []
        self.heard: list[Mapping[str, Any]] = []

    def take(self, chunk: bytes) -> None:
        self.taken.append(chunk)

    def hear(self, usage: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        self.heard.append(usage)


def blame(error: Mapping[str, Any]) -> ProviderFault:
    return ProviderFault(str(error.get("message")), "failed")


def filtered(chunk: bytes, *, strip: bool = True) -> tuple[RecordingSink, Heard]:
    sink, heard = RecordingSink(), Heard()
    sink.start(200, "text/event-stream")
    EventFilter(sink, endpoints.CHAT.api, heard, blame, strip=strip).data(chunk)
    return sink, heard


@pytest.mark.parametrize(
    ("chunk", "left"),
    [
        (b": OPENROUTER PROCESSING\n\n", b""),
        (b": one\n\n: two\n\ndata: {}\n\n", b"data: {}\n\n"),
        (b"data: {}\n\n: one\n\ndata: {}\n\n", b"data: {}\n\ndata: {}\n\n"),
        (b'data: {"a":"b\\n: c"}\n\n', b'data: {"a":"b\\n: c"}\n\n'),
    ],
)
def test_comments_are_no_answer(chunk: bytes, left: bytes) -> None:
    sink, _ = filtered(chunk)
    assert sink.body == left
    assert sink.touched == (not left)


@pytest.mark.parametrize("null", [b',"usage":null', b', "usage": null', b',"usage" : null'])
def test_empty_usage_is_taken_out(null: bytes) -> None:
    chunk = b'data: {"choices":[{"delta":{}}]%b}\n\n' % null
    sink, heard = filtered(chunk)
    assert sink.events == [{"choices": [{"delta": {}}]}]
    assert heard.heard == []
    assert filtered(chunk, strip=False)[0].body == chunk


def test_usage_in_a_chunk_with_text_leaves_the_text() -> None:
    event = {"choices": [{"delta": {"content": 'a "usage" b'}}], "usage": {"prompt_tokens": 1}}
    sink, heard = filtered(b"data: " + orjson.dumps(event) + b"\n\n")
    assert sink.events == [{"choices": event["choices"]}]
    assert heard.heard == [{"prompt_tokens": 1}]


def test_text_about_errors_and_usage_is_text() -> None:
    said = '{"error": 1}\n\ndata: {"error":{}}\n: x\nevent: error "usage":{"a":1}'
    chunk = b"data: " + orjson.dumps({"choices": [{"delta": {"content": said}}]}) + b"\n\n"
    assert filtered(chunk)[0].body == chunk


FAILED = b'{"error":{"message":"gone"}}'


@pytest.mark.parametrize(
    ("endpoint", "event"),
    [
        (endpoints.CHAT, b'data: {"error":{"message":"gone"}}\n\n'),
        (endpoints.CHAT, b'data:{"error":"gone"}\n\n'),
        (endpoints.CHAT, b'event: error\ndata: {"type":"error","error":{"message":"gone"}}\n\n'),
        (endpoints.CHAT, b'data: {"type":"error","message":"gone"}\n\n'),
        (endpoints.CHAT, b'data: {"id":"1","error":{"message":"gone"},"choices":[{}]}\n\n'),
        (endpoints.CHAT, b'data: {"errors":[{"code":3040,"message":"gone"}]}\n\n'),
        (endpoints.MESSAGES, b'event: error\ndata: {"type":"error","message":"gone"}\n\n'),
        (endpoints.MESSAGES, b"event: error\ndata: gone\n\n"),
        (endpoints.RESPONSES, b'data: {"type":"error","message":"gone"}\n\n'),
        (endpoints.RESPONSES, b'event: response.failed\ndata: {"response":%b}\n\n' % FAILED),
        (endpoints.RESPONSES, b'data: {"type":"response.failed","response":%b}\n\n' % FAILED),
        (endpoints.IMAGES, b"event: error\ndata: %b\n\n" % FAILED),
    ],
)
def test_an_error_stops_it_after_what_came_before(endpoint: Endpoint, event: bytes) -> None:
    sink = RecordingSink()
    sink.start(200, "text/event-stream")
    before = b'data: {"choices":[]}\n\n'
    passing = EventFilter(sink, endpoint.api, Heard(), blame, strip=True)
    with pytest.raises(ProviderFault):
        passing.data(before + event + before)
    assert sink.body == before


def test_no_error_is_none() -> None:
    chunk = b'data: {"error":null,"choices":[]}\n\n'
    assert filtered(chunk)[0].body == chunk

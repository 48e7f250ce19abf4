"""Ends of answers, in the words of several servers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api.sse import Splitter
from tests.doubles.base import DONE, sse
from tests.doubles.drive import RecordingSink
from workers.engines.base import EngineFault
from workers.engines.openai.ending import ErrorGuard, ended, tokens_of_stream, tokens_told
from workers.engines.openai.usage import Usage

START = sse(
    {
        "type": "message_start",
        "message": {"usage": {"cache_read_input_tokens": 31, "input_tokens": 1}},
    },
    "message_start",
)
STOP = sse({"type": "message_stop"}, "message_stop")


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(5, 2, 0)),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0, 0)),
        (
            {"prompt_tokens": 5, "completion_tokens": 2,
             "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(5, 2, 4),
        ),
        (
            {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}},
            Usage(5, 2, 3),
        ),
        ({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 31}, Usage(32, 2, 31)),
        ({"output_tokens": 2}, Usage(-1, 2, 0)),
        (None, None),
        ("many", None),
        ({"prompt_tokens": "five", "prompt_tokens_details": [1]}, Usage(-1, 0, 0)),
    ],
)  # fmt: skip
def test_usage_in_any_words(usage: Any, told: Usage | None) -> None:
    assert tokens_told(orjson.dumps({"usage": usage})) == told
    assert tokens_told(orjson.dumps({"response": {"usage": usage}})) == told


@pytest.mark.parametrize("document", [b"1\n00:00\n", b"", b"[1]", b'"x"', b"{}"])
def test_other_answers_tell_nothing(document: bytes) -> None:
    assert tokens_told(document) is None


def test_a_messages_stream_counts_its_prompt_at_the_start() -> None:
    """llama-server's way; vLLM and Ollama tell all of it at the end."""
    delta = sse({"type": "message_delta", "usage": {"output_tokens": 12}}, "message_delta")
    whole = {"input_tokens": 16, "output_tokens": 12}
    also = sse({"type": "message_delta", "usage": whole}, "message_delta")

    assert tokens_of_stream(START, delta + STOP) == Usage(32, 12, 31)
    assert tokens_of_stream(START, also + STOP) == Usage(16, 12, 0)
    assert tokens_of_stream(b"", delta + STOP) == Usage(-1, 12, 0)
    assert tokens_of_stream(START, STOP) is None


@pytest.mark.parametrize(
    ("tail", "whole"),
    [
        (DONE, True),
        (STOP, True),
        (sse({}, "response.completed"), True),
        (sse({}, "response.incomplete"), True),
        (sse({}, "response.failed"), True),
        (sse({}, "response.created"), False),
        (sse({"choices": [{"delta": {"content": "event: message_stop\n[DONE]"}}]}), False),
        (b"", False),
    ],
)
def test_a_stream_says_itself_that_it_is_over(tail: bytes, whole: bool) -> None:
    events = Splitter()
    events.feed(tail)

    assert ended(events) is whole


def test_what_went_before_an_error_still_passes() -> None:
    sink = RecordingSink()
    guard = ErrorGuard(sink, "e")
    guard.start(200, "text/event-stream")
    good = sse({"choices": [{"delta": {"content": 'data: {"error": 1}'}}]})
    with pytest.raises(EngineFault, match="e: broken"):
        guard.data(good + sse({"error": "broken"}))
    with pytest.raises(EngineFault, match="inside the stream"):
        guard.data(b'data: {"error": {\n\n')

    assert sink.body == good
    assert guard.head.startswith(b"data: ")

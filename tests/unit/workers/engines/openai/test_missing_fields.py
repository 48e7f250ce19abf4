"""What answers have by their APIs, whatever the engine leaves out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import endpoints, sse
from tests.doubles.drive import RecordingSink, job
from workers.engines.openai.missing_fields import with_missing_fields

CHAT, MESSAGES = endpoints.CHAT.path, endpoints.MESSAGES.path
RESPONSES = endpoints.RESPONSES.path
ROLE = {"role": "assistant", "content": ""}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}


def streamed(
    path: str, *events: dict[str, Any], apart: bool = True, **request: Any
) -> RecordingSink:
    sink = RecordingSink()
    out = with_missing_fields(sink, job("own", path, stream=True), orjson.dumps(request))
    out.start(200, "text/event-stream")
    written = [sse.dump(event, named="type" in event) for event in events]
    for chunk in written if apart else [b"".join(written)]:
        out.data(chunk)
    return sink


def whole(path: str, document: dict[str, Any], **request: Any) -> Any:
    sink = RecordingSink()
    out = with_missing_fields(sink, job("own", path), orjson.dumps(request))
    out.start(200, "application/json")
    out.data(orjson.dumps(document))
    return sink.document


def chunk(delta: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": None}]}


def deltas(sink: RecordingSink, index: int = 0) -> list[Any]:
    choices = [choice for event in sink.events for choice in event["choices"]]
    return [choice["delta"] for choice in choices if choice["index"] == index]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("head", [[ROLE, CALL], [{**ROLE, **CALL}]])
def test_the_content_before_a_call_is_null(apart: bool, head: list[Any]) -> None:
    sink = streamed(CHAT, *map(chunk, head), chunk({"content": "x"}), apart=apart, **TOOLS)
    first, *rest = deltas(sink)
    assert first == {**head[0], "content": None}
    assert rest == [*head[1:], {"content": "x"}]


@pytest.mark.parametrize("after", [{"content": "a"}, {"reasoning_content": "a"}, {}])
def test_before_anything_else_it_is_text(after: dict[str, Any]) -> None:
    assert deltas(streamed(CHAT, chunk(ROLE), chunk(after), **TOOLS)) == [ROLE, after]


def test_each_choice_has_a_head_of_its_own() -> None:
    mixed = [chunk(ROLE), chunk(ROLE, 1), chunk(CALL, 1), chunk({"content": "a"}), chunk(CALL, 1)]
    sink = streamed(CHAT, *mixed, **TOOLS, n=2)
    assert deltas(sink) == [ROLE, {"content": "a"}]
    assert deltas(sink, 1) == [{**ROLE, "content": None}, CALL, CALL]


def test_a_chat_that_is_not_streamed_is_left_alone() -> None:
    sink = RecordingSink()
    assert with_missing_fields(sink, job("own", CHAT), orjson.dumps(TOOLS)) is sink


THOUGHT = {"type": "thinking", "thinking": ""}


def test_messages_have_ids_of_messages_and_signed_thoughts() -> None:
    named = f"msg_{job('own', MESSAGES).id}"
    begun = {"type": "message_start", "message": {"id": "chatcmpl-1", "content": []}}
    block = {"type": "content_block_start", "index": 0, "content_block": THOUGHT}
    first, second = streamed(MESSAGES, begun, block).events
    assert first["message"]["id"] == named
    assert second["content_block"] == {**THOUGHT, "signature": ""}
    found = whole(MESSAGES, {"id": "chatcmpl-1", "content": [THOUGHT, {"type": "text"}]})
    assert found == {"id": named, "content": [{**THOUGHT, "signature": ""}, {"type": "text"}]}
    signed = {"id": "msg_1", "content": [{**THOUGHT, "signature": "s"}]}
    assert whole(MESSAGES, signed) == signed


def test_a_call_of_a_message_begins_with_an_empty_input() -> None:
    block = {"type": "tool_use", "id": "1", "name": "f"}
    begun = {"type": "content_block_start", "index": 0, "content_block": block}
    [event] = streamed(MESSAGES, begun).events
    assert event["content_block"] == {**block, "input": {}}


def ended(number: int, **item: Any) -> dict[str, Any]:
    about = {"sequence_number": number, "item": {"id": f"i{number}", **item}}
    return {"type": "response.output_item.done", **about}


def last(kind: str, items: int) -> dict[str, Any]:
    output = [{"id": f"i{number}"} for number in range(items)]
    usage = {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": None}
    response = {"status": kind, "output": output, "usage": usage}
    return {"type": f"response.{kind}", "response": response}


@pytest.mark.parametrize("kind", ["incomplete", "completed"])
def test_only_the_last_item_was_cut(kind: str) -> None:
    events = streamed(RESPONSES, ended(0), ended(1), last(kind, 2)).events
    assert [event.get("sequence_number") for event in events] == [0, 1, None]
    assert [event["item"]["status"] for event in events[:2]] == ["completed", kind]
    assert [item["status"] for item in events[2]["response"]["output"]] == ["completed", kind]


def test_a_response_has_every_field() -> None:
    response = whole(RESPONSES, last("completed", 0)["response"], temperature=0.5, tools=[1])
    assert (response["temperature"], response["tools"]) == (0.5, [1])
    assert (response["tool_choice"], response["parallel_tool_calls"]) == ("auto", True)
    assert response["usage"] == {
        "input_tokens": 3,
        "output_tokens": 2,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def test_the_events_of_its_text_have_log_probabilities() -> None:
    delta = {"type": "response.output_text.delta", "delta": '"response.output_text.delta"'}
    own = {**delta, "logprobs": [{"token": "a"}]}
    first, second = streamed(RESPONSES, delta, own).events
    assert (first, second) == ({**delta, "logprobs": []}, own)


def test_an_error_stays_as_it_is() -> None:
    sink = RecordingSink()
    out = with_missing_fields(sink, job("own", RESPONSES), b"{}")
    out.start(400, "application/json")
    out.data(b'{"error":{}}')
    assert sink.body == b'{"error":{}}'

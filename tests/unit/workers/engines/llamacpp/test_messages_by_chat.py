"""Anthropic's messages whose answer has to be of a schema: put as a chat, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from schemas.api.messages.answer import Collector
from tests.doubles.base import DONE, sse
from tests.doubles.drive import RecordingSink, config, job, opened
from tests.doubles.llamacpp.script import chunk
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import CHAT, COUNT_TOKENS, MESSAGES, LlamaCppEngine
from workers.engines.llamacpp.messages_by_chat import as_chat

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
TOOL = {"name": "f", "description": "Does it.", "input_schema": SCHEMA}
HI = {"role": "user", "content": "hi"}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 3},
}
CALLED = {"name": "f", "arguments": '{"a":2}'}
CALL: dict[str, Any] = {"index": 0, "id": "c", "type": "function", "function": CALLED}
both = pytest.mark.parametrize("stream", [False, True])


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": [HI], "max_tokens": 99, **more}


def answer(*deltas: dict[str, Any], reason: str = "stop") -> list[bytes]:
    chunks = [chunk({"role": "assistant", "content": None}), *map(chunk, deltas)]
    return [*chunks, chunk({}, reason), sse({"choices": [], "usage": USAGE}), DONE]


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        running.documents[COUNT_TOKENS] = 200, {"input_tokens": 9}
        running.documents[CHAT] = 200, {"choices": [{"message": {"content": "Hello!"}}]}
        yield running


async def run(engine: LlamaCppEngine, stream: bool, **more: Any) -> dict[str, Any]:
    """The message, which a stream is put together to."""
    sink = RecordingSink()
    body = orjson.dumps(asked(stream=stream, **more))
    end = await engine.run(job("own", MESSAGES, stream=stream), body, sink)
    assert sink.status == 200, sink.body
    assert (end.prompt_tokens, end.completion_tokens, end.cached_tokens) == (7, 5, 3)
    if not stream:
        return dict(orjson.loads(sink.body))
    collector = Collector()
    for event in sink.events:
        collector.add(event)
    assert collector.document is not None
    return collector.document


@both
@pytest.mark.parametrize("beta", [False, True])
async def test_a_text_of_a_schema(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, beta: bool
) -> None:
    said = {"content": '{"a":'}, {"content": "1}"}
    server.streams[CHAT] = answer({"reasoning_content": "hm"}, *said)
    wanted = {"output_format": FORMAT} if beta else {"output_config": {"format": FORMAT}}
    message = await run(engine, stream, **wanted)
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": '{"a":1}'},
    ]
    assert (message["stop_reason"], message["role"]) == ("end_turn", "assistant")
    usage = {"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 3}
    assert message["usage"] == usage
    sent = server.asked(CHAT)[-1]
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert server.asked(MESSAGES) == [{}], "whether it has the endpoint"


@both
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
async def test_a_call_that_must_come_is_forced(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, choice: dict[str, Any]
) -> None:
    said = {"content": '{"name": "f", "arg'}, {"content": 'uments": {"a": 1}}'}
    server.streams[CHAT] = answer(*said)
    message = await run(engine, stream, tools=[TOOL], tool_choice=choice)
    (use,) = message["content"]
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "f", {"a": 1})
    assert message["stop_reason"] == "tool_use"
    sent = server.asked(CHAT)[-1]
    assert "Call one of these functions: f." in sent["messages"][0]["content"]
    assert sent["response_format"]["type"] == "json_schema"


async def test_an_engine_that_obeys_the_choice_gets_the_message_itself(server: LlamaCpp) -> None:
    server.props["chat_template_caps"]["supports_tools"] = True
    server.documents[CHAT] = 200, {"choices": [{"message": {"content": None}}]}
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        body = orjson.dumps(asked(tools=[TOOL], tool_choice={"type": "any"}))
        await engine.run(job("own", MESSAGES), body, RecordingSink())
        assert server.asked(MESSAGES)[-1]["tool_choice"] == {"type": "any"}
        server.streams[CHAT] = answer({"tool_calls": [CALL]}, reason="tool_calls")
        message = await run(engine, False, tools=[TOOL], output_config={"format": FORMAT})
    (use,) = message["content"]
    assert use == {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 2}}
    assert server.asked(CHAT)[-1]["tools"][0]["function"]["parameters"] == SCHEMA


def test_what_a_message_says_as_a_chat() -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    text = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    use = {"type": "tool_use", "id": "u", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "u", "content": [text]}
    chat = as_chat(
        asked(
            system="Be brief.",
            messages=[
                {"role": "user", "content": [text, {"type": "image", "source": picture}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, use]},
                {"role": "user", "content": [result, text]},
            ],
            stop_sequences=["x"],
            thinking={"type": "enabled", "budget_tokens": 1024},
            chat_template_kwargs={"enable_thinking": True},
            temperature=0,
            metadata={},
            tools=[TOOL, {"type": "web_search_20250305", "name": "web_search"}],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        )
    )
    plain = {"type": "text", "text": "x"}
    function = {"name": "f", "arguments": '{"a":1}'}
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                plain,
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "u", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "u", "content": [plain]},
        {"role": "user", "content": [plain]},
    ]
    assert (chat["stop"], chat["temperature"], chat["max_tokens"]) == (["x"], 0, 99)
    assert chat["chat_template_kwargs"] == {"enable_thinking": True}
    assert chat["thinking_budget_tokens"] == 1024
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["f"]
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == ("auto", False)
    assert "metadata" not in chat

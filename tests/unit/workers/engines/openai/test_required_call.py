"""A tool call that is asked for, of a server that leaves it to the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from schemas.api import endpoints
from schemas.nodes import Ignored, ServedModel
from tests.doubles.base import DONE
from tests.doubles.drive import CHAT, RecordingSink, chat, config, job, opened
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.script import chunk
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.openai.required_call import LEFT_OPEN

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
REQUIRED: dict[str, Any] = {CHAT: "required", RESPONSES: "required", MESSAGES: {"type": "any"}}
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = [chunk({"role": "assistant", "content": None}), chunk({"content": 'No "tool_calls".'})]
TRIED = Ignored(
    "tool_choice", "it is left to the model", tuple(endpoints.BY_WORD), LEFT_OPEN, tried=True
)
both = pytest.mark.parametrize("stream", [False, True])


class Trying(LlamaCppEngine):
    """With nothing but what the server does by itself, at all of its endpoints."""

    async def _describe(self, *about: Any) -> ServedModel:
        model = await super()._describe(*about)
        self._obeyed = True
        return replace(model, ignores=(TRIED,))


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        running.props["chat_template_caps"]["supports_tools"] = True
        running.documents[CHAT] = 200, {"choices": [{"message": {"content": "Hello!"}}]}
        running.streams[CHAT] = [*TEXT, chunk({}, "stop"), DONE]
        running.streams[RESPONSES] = [(DATA / "responses.sse").read_bytes()]
        running.streams[MESSAGES] = [(DATA / "messages.sse").read_bytes()]
        yield running


@pytest.fixture
async def engine(server: LlamaCpp) -> AsyncIterator[LlamaCppEngine]:
    async with opened(Trying(config("llamacpp", server.url))) as made:
        yield made


async def called(
    engine: LlamaCppEngine, choice: Any, stream: bool, path: str = CHAT, *, lenient: bool = False
) -> RecordingSink:
    sink = RecordingSink()
    body = {**chat("hi", stream=stream, tool_choice=choice), "input": "hi"}
    await engine.run(job("own", path, stream=stream, lenient=lenient), orjson.dumps(body), sink)
    return sink


@both
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
async def test_a_call_that_comes_is_passed_on(
    server: LlamaCpp, engine: LlamaCppEngine, choice: Any, stream: bool
) -> None:
    calls = [chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls"), DONE]
    server.streams[CHAT] = [*TEXT, *calls]
    sink = await called(engine, choice, stream)
    assert sink.status == 200
    if stream:
        assert sink.body.endswith(b"".join([*TEXT[1:], *calls]))
    else:
        (made,) = sink.document["choices"]
        assert made["message"]["tool_calls"][0]["function"]["name"] == "f"
        assert made["message"]["content"] == 'No "tool_calls".'


@both
@pytest.mark.parametrize("path", REQUIRED)
async def test_an_answer_without_it_is_refused_with_its_status(
    engine: LlamaCppEngine, path: str, stream: bool
) -> None:
    sink = await called(engine, REQUIRED[path], stream, path)
    assert sink.status == 502
    assert (sink.error["code"], sink.error["param"]) == ("invalid_structured_output", "tool_choice")
    assert "answered without a tool call" in sink.error["message"]


@both
@pytest.mark.parametrize(
    ("path", "choice"),
    [
        (CHAT, {"type": "function", "function": {"name": "g"}}),
        (RESPONSES, {"type": "function", "name": "g"}),
        (MESSAGES, {"type": "tool", "name": "g"}),
    ],
)
async def test_so_is_the_call_of_another_tool(
    server: LlamaCpp, engine: LlamaCppEngine, path: str, choice: Any, stream: bool
) -> None:
    """An answer of the responses API repeats the choice, and the tools."""
    server.streams[CHAT] = [*TEXT, chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls"), DONE]
    server.streams[RESPONSES] = [(DATA / "responses_tool.sse").read_bytes()]
    server.streams[MESSAGES] = [(DATA / "messages_tool.sse").read_bytes()]
    sink = await called(engine, choice, stream, path)
    assert sink.status == 502
    assert "a call of 'g'" in sink.error["message"]


@both
@pytest.mark.parametrize(
    ("path", "data", "choice"),
    [
        (RESPONSES, "responses_tool.sse", {"type": "function", "name": "get_weather"}),
        (MESSAGES, "messages_tool.sse", {"type": "tool", "name": "get_weather"}),
    ],
)
async def test_the_other_endpoints_have_calls_of_their_own(
    server: LlamaCpp, engine: LlamaCppEngine, path: str, data: str, choice: Any, stream: bool
) -> None:
    server.streams[path] = [(DATA / data).read_bytes()]
    sink = await called(engine, choice, stream, path)
    assert sink.status == 200
    assert b"get_weather" in sink.body


@both
@pytest.mark.parametrize(("choice", "lenient"), [("auto", False), ("required", True)])
async def test_whoever_does_not_insist_has_the_text(
    engine: LlamaCppEngine, choice: Any, lenient: bool, stream: bool
) -> None:
    sink = await called(engine, choice, stream, lenient=lenient)
    assert sink.status == 200
    assert b"tool_calls" in sink.body


async def test_tokens_are_counted_all_the_same(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    path = "/v1/messages/count_tokens"
    server.documents[path] = 200, {"input_tokens": 3}
    assert (await called(engine, {"type": "any"}, False, path)).document == {"input_tokens": 3}

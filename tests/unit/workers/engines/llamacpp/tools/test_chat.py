"""Chats with tools on a llama-server whose template knows none, or leaves calls to the model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import endpoints
from tests.doubles.base import DONE, sse
from tests.doubles.drive import CHAT, RecordingSink, chat, config, job, opened
from tests.doubles.llamacpp.script import chunk, fault
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "f"}}
JSON = '{"name": "f", "arguments": {"a": 1}}'
CALL = f"<tool_call>\n{JSON}\n</tool_call>"
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
COUNT = endpoints.CHAT_TOKENS.path
both = pytest.mark.parametrize("stream", [False, True])


def said(*texts: str, end: str = "stop") -> list[bytes]:
    """Streamed, for one choice after the other, in pieces of three characters."""
    found = []
    for index, text in enumerate(texts):
        found.append(chunk({"role": "assistant", "content": None}, index=index))
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        found += [chunk({"content": piece}, index=index) for piece in pieces]
        found.append(chunk({}, end, index))
        found.append(sse({"choices": [], "id": "c", "model": "own", "usage": USAGE}))
    return [*found, DONE]


async def run(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, answer: list[bytes], **more: Any
) -> RecordingSink:
    server.streams[CHAT] = answer
    sink = RecordingSink()
    body = chat("hi", stream=stream, **{"tools": [TOOL], **more})
    if stream:
        body["stream_options"] = {"include_usage": True}
    end = await engine.run(job("own", stream=stream), orjson.dumps(body), sink)
    if sink.status == 200:
        assert end.completion_tokens == USAGE["completion_tokens"] * more.get("n", 1)
    return sink


def message(sink: RecordingSink, index: int = 0) -> tuple[Any, list[tuple[str, str]], str]:
    """Content, calls and finish reason of a choice, from a document or a stream."""
    assert sink.status == 200, sink.body
    if sink.content_type == "application/json":
        choice = sink.document["choices"][index]
        found = choice["message"]
        calls = [each["function"] for each in found.get("tool_calls", ())]
        return (
            found["content"],
            [(each["name"], each["arguments"]) for each in calls],
            choice["finish_reason"],
        )
    content, made, reasons = "", [], []
    for part in (part for event in sink.events for part in event["choices"]):
        if part["index"] != index:
            continue
        content += part["delta"].get("content") or ""
        for call in part["delta"].get("tool_calls", ()):
            if "id" in call:
                made.append([call["function"]["name"], ""])
            made[call["index"]][1] += call["function"]["arguments"]
        reasons += [part["finish_reason"]] if part["finish_reason"] else []
    (reason,) = reasons
    return content or None, [(name, arguments) for name, arguments in made], reason


@both
async def test_a_model_that_calls_has_called(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    sink = await run(server, engine, stream, said(CALL))
    assert message(sink) == (None, [("f", '{"a":1}')], "tool_calls")
    sent = server.asked(CHAT)[-1]
    assert "tools" not in sent
    assert "You may call functions." in sent["messages"][0]["content"]


@both
async def test_one_that_answers_has_answered(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    sink = await run(server, engine, stream, said("Hello there!", end="length"))
    assert message(sink) == ("Hello there!", [], "length")
    if stream:
        texts = [part["delta"].get("content") for part in _parts(sink)]
        assert texts == ["", "Hel", "lo ", "the", "re!", None]


@both
@pytest.mark.parametrize(("choice", "end"), [("required", "tool_calls"), (NAMED, "stop")])
@pytest.mark.parametrize("knows", [False, True])
async def test_a_call_that_must_come_comes(
    server: LlamaCpp, stream: bool, choice: Any, end: str, knows: bool
) -> None:
    server.props["chat_template_caps"]["supports_tools"] = knows
    server.documents[CHAT] = 200, {"choices": [{"message": {"content": "Hello!"}}]}
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        sink = await run(server, engine, stream, said(JSON), tool_choice=choice, logprobs=True)
    assert message(sink) == (None, [("f", '{"a": 1}')], end)
    sent = server.asked(CHAT)[-1]
    assert ("tools" in sent) == knows
    assert "logprobs" not in sent
    assert sent["response_format"]["type"] == "json_schema"
    if stream:
        assert _parts(sink)[0]["delta"] == {"role": "assistant", "content": None}
        assert sink.events[-1]["usage"] == USAGE
        assert sink.body.endswith(DONE)
    else:
        (choice_,) = sink.document["choices"]
        assert choice_["logprobs"] is None
        assert set(choice_["message"]) == {"role", "content", "tool_calls"}
        assert sink.document["usage"] == USAGE


@both
async def test_one_that_the_limit_cut_is_what_there_is(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    cut = said(JSON[:-4], end="length")
    sink = await run(server, engine, stream, cut, tool_choice="required")
    assert message(sink) == (None, [("f", '{"a":')], "length")


@both
async def test_each_choice_calls_for_itself(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    sink = await run(server, engine, stream, said(CALL, "No.", f"{CALL}\n{CALL}"), n=3)
    one = ("f", '{"a":1}')
    assert message(sink, 0) == (None, [one], "tool_calls")
    assert message(sink, 1) == ("No.", [], "stop")
    assert message(sink, 2) == (None, [one, one], "tool_calls")


@both
async def test_probabilities_are_those_of_text(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    def probable(text: str) -> bytes:
        tokens = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
        choice = {"finish_reason": None, "index": 0, "delta": {"content": text}, "logprobs": tokens}
        return sse({"choices": [choice], "id": "c", "model": "own"})

    head, *_, end, usage, done = said("")
    answer = [head, *map(probable, ("<", "tool", " box")), end, usage, done]
    sink = await run(server, engine, stream, answer, logprobs=True)
    assert message(sink)[0] == "<tool box"
    choices = _parts(sink) if stream else sink.document["choices"]
    found = [each for part in choices for each in (part.get("logprobs") or {}).get("content", ())]
    assert [each["token"] for each in found] == ["<", "tool", " box"]
    called = [head, *map(probable, (CALL[:20], CALL[20:])), end, usage, done]
    sink = await run(server, engine, stream, called, logprobs=True)
    assert not any(part.get("logprobs") for part in (_parts(sink) if stream else [_only(sink)]))


@both
async def test_thoughts_come_before_it(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    head, *rest = said(CALL)
    sink = await run(server, engine, stream, [head, chunk({"reasoning_content": "hm"}), *rest])
    assert message(sink)[1] == [("f", '{"a":1}')]
    parts = [part["delta"] for part in _parts(sink)] if stream else [_only(sink)["message"]]
    assert [part["reasoning_content"] for part in parts if "reasoning_content" in part] == ["hm"]


@both
async def test_a_history_without_tools_can_be_read(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    told = [
        {"role": "user", "content": "hi"},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    sink = await run(server, engine, stream, said(CALL), messages=told, tool_choice="none")
    assert message(sink) == (CALL, [], "stop"), "nothing was offered, so nothing is called"
    assert server.asked(CHAT)[-1]["messages"][1]["content"].startswith("<tool_response>\nx")


async def test_who_is_made_to_call_by_the_server_goes_as_it_comes(server: LlamaCpp) -> None:
    server.props["chat_template_caps"]["supports_tools"] = True
    server.documents[CHAT] = 200, {"choices": [{"message": {"content": None}}]}
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        await run(server, engine, True, said(CALL), tool_choice="required")
    sent = server.asked(CHAT)[-1]
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], "required")
    assert "response_format" not in sent


async def test_parameters_that_the_server_cannot_force_are_the_tools_fault(
    server: LlamaCpp, engine: LlamaCppEngine
) -> None:
    why = "Unable to generate parser for this template. JSON schema error at #/anyOf/0: x"
    server.documents[CHAT] = fault(400, why)
    sink = RecordingSink()
    body = chat("hi", tools=[TOOL], tool_choice="required")
    await engine.run(job("own"), orjson.dumps(body), sink)
    assert (sink.status, sink.error["param"]) == (400, "tools")


def _parts(sink: RecordingSink) -> list[Any]:
    return [part for event in sink.events for part in event["choices"]]


def _only(sink: RecordingSink) -> Any:
    (choice,) = sink.document["choices"]
    return choice


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_what_is_counted_is_what_would_be_sent(
    server: LlamaCpp, engine: LlamaCppEngine, choice: str
) -> None:
    server.documents[COUNT] = 200, {"object": "response.input_tokens", "input_tokens": 9}
    sink = RecordingSink()
    body = chat("hi", tools=[TOOL], tool_choice=choice)
    await engine.run(job("own", COUNT), orjson.dumps(body), sink)
    assert sink.document["input_tokens"] == 9
    (counted,) = server.asked(COUNT)[-1:]
    await run(server, engine, False, said(JSON), tool_choice=choice)
    sent = server.asked(CHAT)[-1]
    assert counted["messages"] == sent["messages"]
    assert "You may call" in str(counted) or "Call one" in str(counted)
    assert "tools" not in counted

"""Calls one by one, of a server that makes two at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from schemas.api import endpoints
from schemas.api.chat.answer import API as CHAT_API
from tests.doubles.base import DONE, sse
from tests.doubles.drive import CHAT, RecordingSink, chat, config, job, opened
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.script import chunk
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.base import EngineFault
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.openai.engine import OpenAIEngine
from workers.engines.openai.single_call import single

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
RECORDED = (DATA / "tools.sse").read_bytes()
"""Two calls in a chat."""


def blocks() -> bytes:
    """A message with two calls and a text behind them."""
    start = {"content": [], "usage": {"input_tokens": 1}}
    found: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate([called("a"), called("b"), {"type": "text", "text": ""}]):
        text: dict[str, Any] = {"type": "text_delta", "text": "Done."}
        told = {"type": "input_json_delta", "partial_json": '{"tool_use":1}'}
        delta = text if block["type"] == "text" else told
        found += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    found += [{"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}]
    return b"".join(map(named, [*found, {"type": "message_stop"}]))


def called(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name}


def items() -> bytes:
    """A response with two calls and a text behind them."""
    output: list[dict[str, Any]] = [
        *({"type": "function_call", "id": name, "name": name, "arguments": "{}"} for name in "ab"),
        {"type": "message", "id": "m", "role": "assistant", "content": []},
    ]
    found: list[dict[str, Any]] = [{"type": "response.created", "response": {"output": []}}]
    for item in output:
        found.append({"type": "response.output_item.added", "item": item})
        if item["type"] == "function_call":
            kind = "response.function_call_arguments.delta"
            found.append({"type": kind, "item_id": item["id"], "delta": "{}"})
        found.append({"type": "response.output_item.done", "item": item})
    usage = {"input_tokens": 1, "output_tokens": 9}
    whole = {"output": output, "usage": usage, "status": "completed"}
    found.append({"type": "response.completed", "response": whole})
    return b"".join(map(named, found))


def named(event: dict[str, Any]) -> bytes:
    return b"event: %b\n%b" % (event["type"].encode(), sse(event))


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        running.props["chat_template_caps"]["supports_tools"] = True
        running.streams = {CHAT: [RECORDED], MESSAGES: [blocks()], RESPONSES: [items()]}
        yield running


@pytest.fixture
async def engine(server: LlamaCpp) -> AsyncIterator[LlamaCppEngine]:
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        yield made


async def answered(
    engine: OpenAIEngine, path: str, stream: bool, *, lenient: bool = False, **fields: Any
) -> RecordingSink:
    sink = RecordingSink()
    body = {**chat("hi", stream=stream), "input": "hi", **fields}
    await engine.run(job("own", path, stream=stream, lenient=lenient), orjson.dumps(body), sink)
    assert sink.status == 200, sink.body
    return sink


ALONE: dict[str, dict[str, Any]] = {
    CHAT: {"parallel_tool_calls": False},
    RESPONSES: {"parallel_tool_calls": False},
    MESSAGES: {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
}


def calls_in(document: Any) -> list[str]:
    """The names of the tools that are called in an answer that was not streamed."""
    if "choices" in document:
        calls = document["choices"][0]["message"]["tool_calls"]
        return [call["function"]["name"] for call in calls]
    found = document.get("output") or document.get("content")
    return [each["name"] for each in found if each["type"] in ("function_call", "tool_use")]


@pytest.mark.parametrize("path", ALONE)
@pytest.mark.parametrize("lenient", [False, True])
async def test_of_two_calls_the_first_is_passed_on(
    engine: LlamaCppEngine, path: str, lenient: bool
) -> None:
    all_ = (await answered(engine, path, False)).document
    one = (await answered(engine, path, False, lenient=lenient, **ALONE[path])).document
    assert len(calls_in(all_)) == 2
    assert calls_in(one) == calls_in(all_)[:1]
    assert one["usage"] == all_["usage"], "they were generated all the same"
    for end in ("stop_reason", "status"):
        assert one.get(end) == all_.get(end)


async def test_so_it_is_in_the_chunks_of_a_chat(engine: LlamaCppEngine) -> None:
    every = await answered(engine, CHAT, True)
    alone = await answered(engine, CHAT, True, **ALONE[CHAT])

    def is_second(event: Any) -> bool:
        deltas = [choice["delta"] for choice in event["choices"]]
        return any(c["index"] for delta in deltas for c in delta.get("tool_calls") or ())

    assert any(map(is_second, every.events))
    assert alone.events == [event for event in every.events if not is_second(event)]
    assert alone.body.endswith(DONE)


async def test_so_it_is_in_the_blocks_of_a_message(engine: LlamaCppEngine) -> None:
    events = (await answered(engine, MESSAGES, True, **ALONE[MESSAGES])).events
    begun = [event for event in events if event["type"] == "content_block_start"]
    assert [(e["index"], e["content_block"].get("name")) for e in begun] == [(0, "a"), (1, None)]
    ended = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert ended == [0, 1], "the text behind the calls moved up"
    assert [e["delta"]["stop_reason"] for e in events if e["type"] == "message_delta"] == [
        "tool_use"
    ]


async def test_so_it_is_in_the_items_of_a_response(engine: LlamaCppEngine) -> None:
    events = (await answered(engine, RESPONSES, True, **ALONE[RESPONSES])).events
    added = [e for e in events if e["type"] == "response.output_item.added"]
    assert [(e["output_index"], e["item"]["id"]) for e in added] == [(0, "a"), (1, "m")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [item["id"] for item in events[-1]["response"]["output"]] == ["a", "m"]


async def test_each_choice_has_its_own_first_call(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    server.streams[CHAT] = [
        chunk({"role": "assistant", "content": None}, index=0),
        chunk({"role": "assistant", "content": None}, index=1),
        *(
            chunk({"tool_calls": [{"index": call, "id": f"{choice}{call}"}]}, index=choice)
            for call in (0, 1)
            for choice in (0, 1)
        ),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}, "tool_calls"),
        DONE,
    ]
    sink = await answered(engine, CHAT, True, n=2, **ALONE[CHAT])
    choices = [choice for event in sink.events for choice in event["choices"]]
    calls = [c["id"] for choice in choices for c in choice["delta"].get("tool_calls") or ()]
    assert calls == ["00", "10"]
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_calls_that_all_have_one_index_are_told_apart_by_their_ids() -> None:
    sink = RecordingSink()
    alone = single(sink, orjson.dumps({"parallel_tool_calls": False}), CHAT_API)
    alone.start(200, "text/event-stream")
    for ident in ("x", None, "y", None):
        call = {"index": 0, **({"id": ident} if ident else {"function": {"arguments": "1"}})}
        alone.data(chunk({"tool_calls": [call]}))
    calls = [event["choices"][0]["delta"]["tool_calls"][0] for event in sink.events]
    assert [call.get("id") for call in calls] == ["x", None]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "chat"),
        ({"parallel_tool_calls": True}, "chat"),
        ({"parallel_tool_calls": None}, "responses"),
        ({"tool_choice": {"type": "any", "disable_parallel_tool_use": False}}, "messages"),
        ({"parallel_tool_calls": False}, "completions"),
        ({"messages": [{"content": '"parallel_tool_calls": false'}]}, "chat"),
    ],
)
def test_who_does_not_ask_for_it_has_the_engines_own_bytes(body: Any, word: str) -> None:
    sink = RecordingSink()
    assert single(sink, orjson.dumps(body), endpoints.BY_WORD[word].api) is sink


async def test_text_passes_as_it_is() -> None:
    sink = RecordingSink()
    alone = single(sink, orjson.dumps({"parallel_tool_calls": False}), CHAT_API)
    alone.start(200, "text/event-stream")
    text = b'data: {"choices": [ {"delta":{"content":"odd  blanks"}} ]}\n\n'
    alone.data(text)
    assert sink.chunks == [text]


def test_a_document_that_is_none_is_a_fault() -> None:
    alone = single(RecordingSink(), orjson.dumps({"parallel_tool_calls": False}), CHAT_API)
    alone.start(200, "application/json")
    for odd in (b'"tool_calls"', b'{"choices": ["tool_calls"]}', b'<"tool_calls">'):
        with pytest.raises(EngineFault, match="answer is none"):
            alone.data(odd)

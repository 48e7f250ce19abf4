"""Anthropic's messages with tools on a llama-server that offers none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.doubles.base import sse
from tests.doubles.drive import RecordingSink, job
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.llamacpp.tools.messages import prepare

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
TOOL = {"name": "f", "description": "Does it.", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
HI = {"role": "user", "content": "hi"}
both = pytest.mark.parametrize("stream", [False, True])


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": [HI], "tools": [TOOL], "max_tokens": 9, **more}


def answer(text: str, thought: str = "") -> list[bytes]:
    """As llama-server sends it, in pieces of three characters."""
    usage = {"input_tokens": 3, "output_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    said = [("thinking", "thinking_delta", thought)] if thought else []
    for index, (kind, piece, whole) in enumerate([*said, ("text", "text_delta", text)]):
        block = {"type": kind, kind: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for at in range(0, len(whole), 3):
            delta = {"type": piece, kind: whole[at : at + 3]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}})
    events.append({"type": "message_stop"})
    return [b"event: %b\n" % each["type"].encode() + sse(each) for each in events]


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        running.documents[COUNT] = 200, {"input_tokens": 9}
        yield running


def put_together(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    blocks: list[dict[str, Any]] = []
    open_ = reason = None
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert open_ is None
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"])
                open_ = event["index"]
            case "content_block_delta":
                assert event["index"] == open_
                for name, value in event["delta"].items():
                    if name == "partial_json":
                        blocks[-1]["input"] = orjson.loads(value)
                    elif name != "type":
                        blocks[-1][name] += value
            case "content_block_stop":
                assert event["index"] == open_
                open_ = None
            case "message_delta":
                reason = event["delta"]["stop_reason"]
    assert open_ is None
    return blocks, str(reason)


async def run(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, said: list[bytes], **more: Any
) -> tuple[list[dict[str, Any]], str]:
    """The blocks of the answer, and why it ended."""
    server.streams[PATH] = said
    sink = RecordingSink()
    end = await engine.run(job("own", PATH, stream=stream), orjson.dumps(asked(**more)), sink)
    assert sink.status == 200, sink.body
    assert end.completion_tokens == 5
    if stream:
        return put_together(sink.events)
    return sink.document["content"], sink.document["stop_reason"]


@both
async def test_a_call_is_a_block(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    (use,), reason = await run(server, engine, stream, answer(CALL))
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "f", {"a": 1})
    assert reason == "tool_use"
    sent = server.asked(PATH)[-1]
    assert "tools" not in sent
    assert '{"name":"f","description":"Does it.",' in sent["system"]


@both
async def test_so_is_each_of_several_behind_a_thought(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    said = answer(f"{CALL}\n{CALL} So.", "hm")
    blocks, reason = await run(server, engine, stream, said)
    assert [block["type"] for block in blocks] == ["thinking", "tool_use", "tool_use", "text"]
    assert (blocks[0]["thinking"], blocks[3]["text"]) == ("hm", " So.")
    assert blocks[1]["id"] != blocks[2]["id"]
    assert reason == "tool_use"


@both
async def test_text_is_what_it_was(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    blocks, reason = await run(server, engine, stream, answer("Hello!"))
    assert (blocks, reason) == ([{"type": "text", "text": "Hello!"}], "end_turn")


async def test_tokens_are_counted_with_the_tools(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    sink = RecordingSink()
    await engine.run(job("own", COUNT), orjson.dumps(asked()), sink)
    assert "You may call functions." in server.asked(COUNT)[-1]["system"]


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_functions_are_described_in_the_system_prompt(system: Any) -> None:
    sent, expected = prepare(asked(system=system), False)
    assert expected is not None
    assert sent["system"].startswith("Be brief.\n\nYou may call functions.")
    none, nothing = prepare(asked(system=system, tool_choice={"type": "none"}), False)
    assert (none["system"], nothing) == ("Be brief." if system == "Be brief." else system, None)


def test_calls_and_results_of_the_history_are_written_out() -> None:
    text, use = (
        {"type": "text", "text": "So."},
        {"type": "tool_use", "name": "f", "input": {"a": 1}},
    )
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "7"}]}
    said = [HI, {"role": "assistant", "content": [text, use]}]
    sent, _ = prepare(
        {"messages": [*said, {"role": "user", "content": [result, result, text]}]}, False
    )
    hi, called, results, asks = sent["messages"]
    assert hi == HI
    call = CALL.replace(": 1", ":1")
    assert called == {"role": "assistant", "content": f"So.\n{call}"}
    once = "<tool_response>\n7\n</tool_response>"
    assert results == {"role": "user", "content": f"{once}\n{once}"}
    assert asks == {"role": "user", "content": [text]}

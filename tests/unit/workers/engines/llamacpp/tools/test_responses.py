"""Responses with tools on a llama-server that offers none, or leaves calls to the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.doubles.base import sse
from tests.doubles.drive import RecordingSink, job
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.llamacpp.tools.responses import prepare

PATH = "/v1/responses"
COUNT = "/v1/responses/input_tokens"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
NAMED = {"type": "function", "name": "f"}
JSON = '{"name": "f", "arguments": {"a": 1}}'
CALL = f"<tool_call>\n{JSON}\n</tool_call>"
both = pytest.mark.parametrize("stream", [False, True])


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c-{name}", "name": name, "arguments": "{}"}


def output(content: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "c-f", "output": content}


def asked(**more: Any) -> dict[str, Any]:
    return {"input": "hi", "tools": [TOOL], **more}


def answer(text: str) -> list[bytes]:
    """As llama-server sends it, in pieces of three characters."""
    begun = {"id": "m", "type": "message", "role": "assistant", "status": "in_progress"}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    whole = {**part, "text": text}
    item = {**begun, "status": "completed", "content": [whole]}
    usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    response = {"id": "r", "status": "completed", "output": [item], "usage": usage}
    deltas = [text[at : at + 3] for at in range(0, len(text), 3)]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
        {"type": "response.output_item.added", "item": {**begun, "content": []}},
        {"type": "response.content_part.added", "item_id": "m", "part": part},
        *({"type": "response.output_text.delta", "item_id": "m", "delta": each} for each in deltas),
        {"type": "response.output_text.done", "item_id": "m", "text": text},
        {"type": "response.content_part.done", "item_id": "m", "part": whole},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": response},
    ]
    return [b"event: %b\n" % each["type"].encode() + sse(each) for each in events]


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        running.documents[COUNT] = 200, {"object": "response.input_tokens", "input_tokens": 9}
        yield running


async def run(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, text: str, **more: Any
) -> tuple[RecordingSink, list[dict[str, Any]]]:
    """The answer, and what is in it in the end."""
    server.streams[PATH] = answer(text)
    sink = RecordingSink()
    end = await engine.run(job("own", PATH, stream=stream), orjson.dumps(asked(**more)), sink)
    assert sink.status == 200, sink.body
    assert end.completion_tokens == 5
    return sink, sink.events[-1]["response"]["output"] if stream else sink.document["output"]


def kinds(sink: RecordingSink) -> list[str]:
    events = [event["type"].removeprefix("response.") for event in sink.events]
    assert [event["sequence_number"] for event in sink.events] == list(range(len(events)))
    return [each for at, each in enumerate(events) if each != events[at - 1]]


@both
@pytest.mark.parametrize(("text", "choice"), [(CALL, "auto"), (JSON, "required"), (JSON, NAMED)])
async def test_a_call_is_an_item(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool, text: str, choice: Any
) -> None:
    sink, (item,) = await run(server, engine, stream, text, tool_choice=choice)
    assert (item["type"], item["name"]) == ("function_call", "f")
    assert orjson.loads(item["arguments"]) == {"a": 1}
    assert item["call_id"].startswith("call_")
    if stream:
        assert kinds(sink) == [
            *("created", "output_item.added", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done", "completed"),
        ]
        about = [event for event in sink.events if "output_index" in event]
        assert {event["output_index"] for event in about} == {0}
        deltas = [e["delta"] for e in about if e["type"].endswith("arguments.delta")]
        assert "".join(deltas) == item["arguments"]
    sent = server.asked(PATH)[-1]
    assert "tools" not in sent
    assert ("response_format" in sent) == (choice != "auto")


@both
async def test_text_is_what_it_was(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    sink, (item,) = await run(server, engine, stream, "Hello!")
    assert [part["text"] for part in item["content"]] == ["Hello!"]
    if stream:
        deltas = [e["delta"] for e in sink.events if e["type"].endswith("text.delta")]
        assert deltas == ["Hel", "lo!"]
        assert kinds(sink)[1:4] == ["output_item.added", "content_part.added", "output_text.delta"]


@both
async def test_text_behind_calls_is_an_item_of_its_own(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    sink, items = await run(server, engine, stream, f"{CALL}\n{CALL}So.")
    assert [item["type"] for item in items] == ["function_call", "function_call", "message"]
    assert items[2]["content"][0]["text"] == "So."
    assert items[0]["call_id"] != items[1]["call_id"]
    if stream:
        done = [e for e in sink.events if e["type"].endswith("item.done")]
        assert [event["output_index"] for event in done] == [0, 1, 2]
        assert [event["item"] for event in done] == items


async def test_tokens_are_counted_with_the_tools(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    sink = RecordingSink()
    await engine.run(job("own", COUNT), orjson.dumps(asked()), sink)
    assert "You may call functions." in server.asked(COUNT)[-1]["instructions"]


def test_functions_are_described_in_the_instructions() -> None:
    sent, expected = prepare(asked(instructions="Be brief."), knows=False)
    assert expected is not None
    assert sent.keys() == {"input", "instructions"}
    assert sent["instructions"].startswith("Be brief.\n\nYou may call functions. Functions:\n")
    assert '{"name":"f","parameters":{"type":"object"}}' in sent["instructions"]


def test_calls_and_results_of_the_history_are_written_out() -> None:
    thought = {"type": "reasoning", "summary": []}
    result = [{"type": "input_text", "text": "Rain."}, {"type": "input_image", "image_url": "x"}]
    items = [thought, call("f"), call("g"), output("Sun."), output(result), call("f")]
    sent, expected = prepare({"input": items}, knows=False)
    assert expected is None
    assert sent["input"][0] == thought
    said, results, last = sent["input"][1:]
    assert (said["role"], said["content"].count("<tool_call>")) == ("assistant", 2)
    assert (results["role"], last["role"]) == ("user", "assistant")
    assert [part["type"] for part in results["content"]][-2:] == ["input_image", "input_text"]
    assert results["content"][0]["text"] == "<tool_response>\n"


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        NAMED,
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
    ],
)
@pytest.mark.parametrize("knows", [False, True])
def test_a_call_that_must_come_is_forced(knows: bool, choice: Any) -> None:
    request = asked(tool_choice=choice, tools=[TOOL, {**TOOL, "name": "g"}])
    sent, expected = prepare(request, knows)
    assert expected is not None
    assert (expected.form, expected.names[0]) == ("forced", "f")
    assert sent["text"]["format"]["type"] == "json_schema"
    assert "anyOf" in sent["text"]["format"]["schema"]
    assert (sent.get("tools"), sent.get("tool_choice")) == (
        (request["tools"], "none") if knows else (None, None)
    )


@pytest.mark.parametrize("knows", [False, True])
def test_json_may_be_a_call_instead(knows: bool) -> None:
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    sent, expected = prepare(asked(text={"format": wanted}), knows)
    assert expected is not None
    assert expected.form == "either"
    assert len(sent["text"]["format"]["schema"]["anyOf"]) == 2


def test_a_template_that_knows_tools_gets_what_is_left_to_the_model() -> None:
    request = asked(tool_choice="auto", input=[call("f"), output("Sun.")])
    assert prepare(request, knows=True) == (request, None)

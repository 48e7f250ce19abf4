"""Messages and responses that the worker puts together from llama-server's streams equal what the
engine says unstreamed; chats: test_aggregate_live.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.acceptance.conftest import RealLlama, running_llama
from tests.acceptance.surface.questions import QUESTION
from tests.acceptance.surface.servers import THINKING_MODEL, TOOLS_MODEL, template
from tests.acceptance.surface.test_anthropic import TOOL_CHAT
from tests.doubles.drive import RecordingSink, config, job, opened
from workers.engines.llamacpp.engine import LlamaCppEngine

REPEATABLE: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"max_tokens": 3},
    "one token": {"max_tokens": 1},
    "system": {"system": "Answer in French."},
    "tool": TOOL_CHAT,
}
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "instructions": {"instructions": "Answer in French."},
    "thought": {"grammar": 'root ::= "hm\\n</think>\\n\\nParis"'},
    "schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        }
    },
}
NOT_COMPARED = ("id", "created_at", "completed_at", "usage")


@pytest.fixture(scope="module")
def tools_llama() -> Iterator[RealLlama]:
    with running_llama(*template("tools.jinja", TOOLS_MODEL)) as server:
        yield server


@pytest.fixture(scope="module")
def thinking_llama() -> Iterator[RealLlama]:
    with running_llama(*template("think.jinja", THINKING_MODEL)) as server:
        yield server


async def both(server: RealLlama, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
    """(the engine's document, what the worker made of its stream)"""
    status, native = await asyncio.to_thread(server.post, path, body)
    assert status == 200, native
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        sink = RecordingSink()
        (model,) = (await engine.discover()).models
        end = await engine.run(job(model.id, path), orjson.dumps(body), sink)
    document = json.loads(native)
    told, usage = document["usage"], sink.document["usage"]
    assert usage["output_tokens"] == told["output_tokens"] == end.completion_tokens
    assert usage.keys() - {"output_tokens_details"} == told.keys()
    return masked(document), masked(sink.document)


def masked(document: dict[str, Any]) -> dict[str, Any]:
    out = {name: value for name, value in document.items() if name not in NOT_COMPARED}
    for item in out.get("content", out.get("output", ())):
        item.pop("id", None)
        item.pop("call_id", None)
    return out


@pytest.mark.parametrize("case", MESSAGES)
async def test_a_message_equals_the_engines(tools_llama: RealLlama, case: str) -> None:
    body = {"messages": QUESTION, **REPEATABLE, **MESSAGES[case]}
    native, made = await both(tools_llama, "/v1/messages", body)
    assert made == native


@pytest.mark.parametrize("thoughts", [True, False])
async def test_a_thought_equals_the_engines(thinking_llama: RealLlama, thoughts: bool) -> None:
    arguments = {} if thoughts else {"chat_template_kwargs": {"enable_thinking": False}}
    body = {"messages": QUESTION, **REPEATABLE, "max_tokens": 8, **arguments}
    native, made = await both(thinking_llama, "/v1/messages", body)
    assert made == native
    assert made["content"][0]["type"] == ("thinking" if thoughts else "text")


async def test_a_stop_sequence_is_the_reason_and_a_prefill_is_not_repeated(
    tools_llama: RealLlama,
) -> None:
    """The two differences that are meant: they are as Anthropic documents them."""
    stop = {"messages": QUESTION, **REPEATABLE, "stop_sequences": ["France"]}
    native, made = await both(tools_llama, "/v1/messages", stop)
    assert (native.pop("stop_reason"), made.pop("stop_reason")) == ("end_turn", "stop_sequence")
    assert made == native
    prefill = [*QUESTION, {"role": "assistant", "content": "The capital of"}]
    native, made = await both(tools_llama, "/v1/messages", {"messages": prefill, **REPEATABLE})
    assert native["content"][0]["text"] == "The capital of" + made["content"][0]["text"]


@pytest.mark.parametrize("case", RESPONSES)
async def test_a_response_equals_the_engines(thinking_llama: RealLlama, case: str) -> None:
    body = {"input": QUESTION[0]["content"], "temperature": 0, "seed": 1, **RESPONSES[case]}
    native, made = await both(thinking_llama, "/v1/responses", {**body, "max_output_tokens": 60})
    if made["status"] == "incomplete":
        assert made.pop("incomplete_details") == {"reason": "max_output_tokens"}
        made["status"] = "completed"  # the engine's word for it
    for item in native["output"]:
        item.pop("status", None)
    for item in made["output"]:
        item.pop("status", None)
    # What was asked for is repeated, as OpenAI does; the engine does not.
    assert {name: made[name] for name in native} == native


async def busy(server: RealLlama, wanted: int) -> None:
    """Wait until so many slots are at work; its list of slots is answered between two tokens."""
    async with asyncio.timeout(15):
        while True:
            _, raw = await asyncio.to_thread(server.get, "/slots")
            if sum(slot["is_processing"] for slot in json.loads(raw)) == wanted:
                return


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/completions"])
async def test_a_dropped_document_frees_its_slot(tools_llama: RealLlama, path: str) -> None:
    """The engine itself would go on to the end: it notices only while it streams."""
    endless = {"max_tokens": 1500, "max_output_tokens": 1500, "ignore_eos": True}
    body = {"messages": QUESTION, "input": "hi", "prompt": "hi", **endless}
    async with opened(LlamaCppEngine(config("llamacpp", tools_llama.url))) as engine:
        (model,) = (await engine.discover()).models
        what = job(model.id, path)
        running = asyncio.create_task(engine.run(what, orjson.dumps(body), RecordingSink()))
        await busy(tools_llama, 1)
        running.cancel()
        await busy(tools_llama, 0)
        with pytest.raises(asyncio.CancelledError):
            await running

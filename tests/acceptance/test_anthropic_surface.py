"""Anthropic's client library against the fabric, and llama-server's documents against what the
worker puts together from its streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import orjson
import pytest
import pytest_asyncio
from anthropic import Anthropic, AsyncAnthropic

from tests.acceptance.conftest import MODEL, Llama, running_llama
from tests.acceptance.surface import THINKING_MODEL, TOOLS_MODEL, surface, template
from tests.fabric import KEY, Fabric
from tests.sim.drive import Recorder, config, job, opened
from workers.engines.llamacpp import LlamaCppEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIAS = "gpt-4o-mini"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? One sentence."}]
COLD = {"temperature": 0}
"""The newest library has no word for it."""
NO_THOUGHT: Any = {"type": "disabled"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    async with surface(tmp_path_factory.mktemp("surface")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Fabric) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=served.url, api_key=KEY, max_retries=0) as made:
        yield made


async def ask(client: AsyncAnthropic, messages: Any = QUESTION, **fields: Any) -> Any:
    body = {"model": MODEL, "max_tokens": 24, "extra_body": COLD, "messages": messages, **fields}
    return await client.messages.create(**body)


async def refused(call: Any) -> tuple[anthropic.APIStatusError, dict[str, Any]]:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await call
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["request_id"] == caught.value.request_id
    return caught.value, body["error"]


async def test_a_message_under_another_name(client: AsyncAnthropic) -> None:
    answer = await ask(client, model=ALIAS)
    assert "Paris" in answer.content[0].text
    assert (answer.model, answer.role, answer.stop_reason) == (ALIAS, "assistant", "end_turn")
    assert answer.usage.output_tokens > 3
    stream = client.messages.stream(model=ALIAS, messages=QUESTION, max_tokens=24, extra_body=COLD)
    async with stream as events:
        text = "".join([piece async for piece in events.text_stream])
        final = await events.get_final_message()
    assert text == answer.content[0].text
    assert (final.model, final.stop_reason) == (ALIAS, "end_turn")
    assert final.usage.output_tokens == answer.usage.output_tokens


async def test_raw_events(client: AsyncAnthropic) -> None:
    events = [event.type async for event in await ask(client, stream=True)]
    assert events[0] == "message_start"
    assert events[-2:] == ["message_delta", "message_stop"]
    assert events.count("content_block_delta") > 3


async def test_limits_stops_and_the_system(client: AsyncAnthropic) -> None:
    cut = await ask(client, max_tokens=2)
    stopped = await ask(client, stop_sequences=["France", "Paris"])
    told = await ask(client, system="Answer in French.")
    blocks = await ask(client, system=[{"type": "text", "text": "Answer in French."}])
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    assert stopped.stop_reason == "stop_sequence"
    assert stopped.stop_sequence in ("France", "Paris")
    assert "France" not in stopped.content[0].text
    assert told.content[0].text == blocks.content[0].text


async def test_tokens_are_counted(client: AsyncAnthropic) -> None:
    one = await client.messages.count_tokens(model=ALIAS, messages=QUESTION)
    longer: Any = [{"role": "user", "content": "word " * 100}]
    two = await client.messages.count_tokens(model=MODEL, messages=longer)
    assert 10 < one.input_tokens < 60 < two.input_tokens
    answer = await ask(client)
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == one.input_tokens


def tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"name": name, "input_schema": schema}


def example(city: str) -> list[dict[str, Any]]:
    use = {"type": "tool_use", "id": f"u-{city}", "name": "weather", "input": {"city": city}}
    result = {"type": "tool_result", "tool_use_id": f"u-{city}", "content": "Rain."}
    return [
        {"role": "user", "content": f"weather of {city}?"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "Rain."},
    ]


TOOL_CHAT: dict[str, Any] = {
    "model": TOOLS_MODEL,
    "messages": [
        *(message for city in ("Rome", "Oslo", "Bonn") for message in example(city)),
        {"role": "user", "content": "weather of Paris?"},
    ],
    "tools": [tool("weather")],
    "max_tokens": 100,
}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called(client: AsyncAnthropic, stream: bool) -> None:
    if stream:
        async with client.messages.stream(**TOOL_CHAT, extra_body=COLD) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await ask(client, **TOOL_CHAT)
    uses = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert [(use.name, use.input) for use in uses] == [("weather", {"city": "Paris"})]


async def test_thoughts_can_be_left_out(client: AsyncAnthropic) -> None:
    thinking = await ask(client, model=THINKING_MODEL, max_tokens=6)
    plain = await ask(client, model=THINKING_MODEL, max_tokens=6, thinking=NO_THOUGHT)
    assert thinking.content[0].type == "thinking"
    assert [block.type for block in plain.content] == ["text"]


@pytest.mark.parametrize(
    ("fields", "status", "kind", "param"),
    [
        ({"model": "none"}, 404, "not_found_error", "model"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
        ({"tools": [tool("f")]}, 400, "invalid_request_error", "tools"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
            400,
            "invalid_request_error",
            "thinking",
        ),
        (
            {
                "model": TOOLS_MODEL,
                "tools": [{"type": "web_search_20250305", "name": "web_search"}],
            },
            400,
            "invalid_request_error",
            "tools[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": "word " * 5000}]},
            400,
            "invalid_request_error",
            "messages",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_anthropics_shape(
    client: AsyncAnthropic,
    fields: dict[str, Any],
    status: int,
    kind: str,
    param: str,
    stream: bool,
) -> None:
    error, told = await refused(ask(client, **{"stream": stream, **fields}))
    assert (error.status_code, told["type"], told["param"]) == (status, kind, param)


async def test_a_wrong_key(served: Fabric) -> None:
    async with AsyncAnthropic(base_url=served.url, api_key="sk-wrong", max_retries=0) as stranger:
        error, told = await refused(ask(stranger))
    assert isinstance(error, anthropic.AuthenticationError)
    assert told["type"] == "authentication_error"


async def test_the_sync_client(served: Fabric) -> None:
    def call() -> tuple[str, str]:
        with Anthropic(base_url=served.url, api_key=KEY) as client:
            body: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": 24}
            body["extra_body"] = COLD
            whole: Any = client.messages.create(**body)
            with client.messages.stream(**body) as stream:
                return whole.content[0].text, "".join(stream.text_stream)

    whole, streamed = await asyncio.to_thread(call)
    assert "Paris" in whole
    assert streamed == whole


# What the worker puts together equals what the engine says unstreamed.

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
def tools() -> Iterator[Llama]:
    with running_llama(*template("tools.jinja", TOOLS_MODEL)) as server:
        yield server


@pytest.fixture(scope="module")
def thinking() -> Iterator[Llama]:
    with running_llama(*template("think.jinja", THINKING_MODEL)) as server:
        yield server


async def both(server: Llama, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
    """(the engine's document, what the worker made of its stream)"""
    status, native = await asyncio.to_thread(server.post, path, body)
    assert status == 200, native
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        sink = Recorder()
        (model,) = (await engine.discover()).models
        end = await engine.run(job(model.id, path), orjson.dumps(body), sink)
    document = json.loads(native)
    told, usage = document["usage"], sink.document["usage"]
    assert usage["output_tokens"] == told["output_tokens"] == end.completion_tokens
    assert usage.keys() == told.keys()
    return masked(document), masked(sink.document)


def masked(document: dict[str, Any]) -> dict[str, Any]:
    out = {name: value for name, value in document.items() if name not in NOT_COMPARED}
    for item in out.get("content", out.get("output", ())):
        item.pop("id", None)
        item.pop("call_id", None)
    return out


@pytest.mark.parametrize("case", MESSAGES)
async def test_a_message_equals_the_engines(tools: Llama, case: str) -> None:
    body = {"messages": QUESTION, **REPEATABLE, **MESSAGES[case]}
    native, made = await both(tools, "/v1/messages", body)
    assert made == native


@pytest.mark.parametrize("thoughts", [True, False])
async def test_a_thought_equals_the_engines(thinking: Llama, thoughts: bool) -> None:
    arguments = {} if thoughts else {"chat_template_kwargs": {"enable_thinking": False}}
    body = {"messages": QUESTION, **REPEATABLE, "max_tokens": 8, **arguments}
    native, made = await both(thinking, "/v1/messages", body)
    assert made == native
    assert made["content"][0]["type"] == ("thinking" if thoughts else "text")


async def test_a_stop_sequence_is_the_reason_and_a_prefill_is_not_repeated(tools: Llama) -> None:
    """The two differences that are meant: they are as Anthropic documents them."""
    stop = {"messages": QUESTION, **REPEATABLE, "stop_sequences": ["France"]}
    native, made = await both(tools, "/v1/messages", stop)
    assert (native.pop("stop_reason"), made.pop("stop_reason")) == ("end_turn", "stop_sequence")
    assert made == native
    prefill = [*QUESTION, {"role": "assistant", "content": "The capital of"}]
    native, made = await both(tools, "/v1/messages", {"messages": prefill, **REPEATABLE})
    assert native["content"][0]["text"] == "The capital of" + made["content"][0]["text"]


@pytest.mark.parametrize("case", RESPONSES)
async def test_a_response_equals_the_engines(thinking: Llama, case: str) -> None:
    body = {"input": QUESTION[0]["content"], "temperature": 0, "seed": 1, **RESPONSES[case]}
    native, made = await both(thinking, "/v1/responses", {**body, "max_output_tokens": 60})
    if made["status"] == "incomplete":
        assert made.pop("incomplete_details") == {"reason": "max_output_tokens"}
        made["status"] = "completed"  # the engine's word for it
    for item in native["output"]:
        item.pop("status", None)
    for item in made["output"]:
        item.pop("status", None)
    assert made == native

"""Anthropic's client library against the fabric."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.servers import THINKING_MODEL, TOOLS_MODEL
from tests.fabric import KEY, PATIENCE, Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")

ALIAS = "gpt-4o-mini"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? One sentence."}]
COLD = {"temperature": 0}
"""The newest library has no word for it."""
NO_THOUGHT: Any = {"type": "disabled"}


async def ask(claude: AsyncAnthropic, messages: Any = QUESTION, **fields: Any) -> Any:
    body = {"model": MODEL, "max_tokens": 24, "extra_body": COLD, "messages": messages, **fields}
    return await claude.messages.create(**body)


async def refused(call: Any) -> tuple[anthropic.APIStatusError, dict[str, Any]]:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await call
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["request_id"] == caught.value.request_id
    return caught.value, body["error"]


async def test_a_message_under_another_name(claude: AsyncAnthropic) -> None:
    answer = await ask(claude, model=ALIAS)
    assert "Paris" in answer.content[0].text
    assert (answer.model, answer.role, answer.stop_reason) == (ALIAS, "assistant", "end_turn")
    assert answer.usage.output_tokens > 3
    stream = claude.messages.stream(model=ALIAS, messages=QUESTION, max_tokens=24, extra_body=COLD)
    async with stream as events:
        text = "".join([piece async for piece in events.text_stream])
        final = await events.get_final_message()
    assert text == answer.content[0].text
    assert (final.model, final.stop_reason) == (ALIAS, "end_turn")
    assert final.usage.output_tokens == answer.usage.output_tokens


async def test_raw_events(claude: AsyncAnthropic) -> None:
    events = [event.type async for event in await ask(claude, stream=True)]
    assert events[0] == "message_start"
    assert events[-2:] == ["message_delta", "message_stop"]
    assert events.count("content_block_delta") > 3


async def test_limits_stops_and_the_system(claude: AsyncAnthropic) -> None:
    cut = await ask(claude, max_tokens=2)
    stopped = await ask(claude, stop_sequences=["France", "Paris"])
    told = await ask(claude, system="Answer in French.")
    blocks = await ask(claude, system=[{"type": "text", "text": "Answer in French."}])
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    assert stopped.stop_reason == "stop_sequence"
    assert stopped.stop_sequence in ("France", "Paris")
    assert "France" not in stopped.content[0].text
    assert told.content[0].text == blocks.content[0].text


async def test_tokens_are_counted(claude: AsyncAnthropic) -> None:
    one = await claude.messages.count_tokens(model=ALIAS, messages=QUESTION)
    longer: Any = [{"role": "user", "content": "word " * 100}]
    two = await claude.messages.count_tokens(model=MODEL, messages=longer)
    assert 10 < one.input_tokens < 60 < two.input_tokens
    answer = await ask(claude)
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
async def test_a_tool_is_called(claude: AsyncAnthropic, stream: bool) -> None:
    if stream:
        async with claude.messages.stream(**TOOL_CHAT, extra_body=COLD) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await ask(claude, **TOOL_CHAT)
    uses = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert [(use.name, use.input) for use in uses] == [("weather", {"city": "Paris"})]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_argument_called_model_is_not_the_answers_own(
    claude: AsyncAnthropic, stream: bool
) -> None:
    schema = {"type": "object", "properties": {"model": {"type": "string"}}}
    messages = json.loads(json.dumps(TOOL_CHAT["messages"]).replace('"city"', '"model"'))
    asked: Any = {
        **TOOL_CHAT,
        "messages": messages,
        "tools": [{"name": "weather", "input_schema": schema}],
        "extra_body": COLD,
    }
    if stream:
        async with claude.messages.stream(**asked) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await claude.messages.create(**asked)
    (used,) = [block for block in answer.content if block.type == "tool_use"]
    assert (used.input, answer.model) == ({"model": "Paris"}, TOOLS_MODEL)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_template_that_knows_no_tools_has_them(
    claude: AsyncAnthropic, stream: bool
) -> None:
    """It repeats what it has seen, be it a call."""
    talk = [message for city in ("Rome", "Oslo", "Bonn") for message in example(city)[:2]]
    body = {**TOOL_CHAT, "model": MODEL, "messages": [*talk, example("Paris")[0]]}
    if stream:
        async with claude.messages.stream(**body, extra_body=COLD) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await ask(claude, **body)
    (use,) = answer.content
    assert answer.stop_reason == "tool_use"
    assert (use.name, use.input) == ("weather", {"city": "Paris"})
    told = [*body["messages"], {"role": "assistant", "content": answer.content}]
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "Rain."}]
    told.append({"role": "user", "content": results})
    after = await ask(claude, **{**body, "messages": told})
    assert after.content
    counted = await claude.messages.count_tokens(
        model=MODEL, messages=told, tools=TOOL_CHAT["tools"]
    )
    prompt = after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0)
    assert counted.input_tokens == prompt


@pytest.mark.parametrize("only_one", [True, False])
async def test_a_tool_may_be_called(claude: AsyncAnthropic, only_one: bool) -> None:
    choice: Any = {"type": "auto", "disable_parallel_tool_use": only_one}
    answer = await ask(claude, **TOOL_CHAT, tool_choice=choice)
    assert answer.stop_reason == "tool_use"


async def test_no_tool_may_be_called(claude: AsyncAnthropic) -> None:
    answer = await ask(claude, **TOOL_CHAT, tool_choice={"type": "none"})
    assert answer.stop_reason != "tool_use"
    assert {block.type for block in answer.content} == {"text"}


async def test_what_is_usual_asks_for_nothing(claude: AsyncAnthropic) -> None:
    kept: Any = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    fields: Any = {"output_config": {"effort": "high"}, "context_management": kept}
    adaptive: Any = {"type": "adaptive"}
    body = {**COLD, **fields, "mcp_servers": []}
    assert (
        await ask(claude, thinking=adaptive, metadata={"user_id": "u"}, extra_body=body)
    ).content
    choice: Any = {"type": "auto", "disable_parallel_tool_use": False}
    answer = await ask(claude, model=TOOLS_MODEL, tools=[tool("f")], tool_choice=choice)
    assert answer.stop_reason


async def test_a_clients_hints_are_obeyed_or_named(claude: AsyncAnthropic) -> None:
    """Some as Claude Code sends them."""
    create: Any = claude.messages.with_raw_response.create
    cached = {"type": "text", "text": "Say hi.", "cache_control": {"type": "ephemeral"}}
    hints: Any = {
        "thinking": {"type": "enabled", "budget_tokens": 4},
        "service_tier": "priority",
        "metadata": {"user_id": "u"},
        "tools": [tool("f"), {"type": "bash_20250124", "name": "bash"}],
        "extra_body": {"output_config": {"effort": "high"}, "seed": 1, **COLD},
    }
    asked = {
        "max_tokens": 30,
        "messages": [{"role": "user", "content": [cached]}],
    }
    raw = await create(model=THINKING_MODEL, **asked, **hints)
    kinds = [block.type for block in (await raw.parse()).content]
    assert kinds[:2] == ["thinking", "text"], "its thoughts end with their budget"
    for name in ("cache_control", "service_tier", "seed", "tools[1].type"):
        assert f"{name} has no effect" in raw.headers["x-headrace-warning"]
    raw = await create(model=MODEL, **asked, **hints)
    assert "thinking has no effect: the model does not reason" in raw.headers["x-headrace-warning"]


async def test_thoughts_can_be_left_out(claude: AsyncAnthropic) -> None:
    thinking = await ask(claude, model=THINKING_MODEL, max_tokens=6)
    plain = await ask(claude, model=THINKING_MODEL, max_tokens=6, thinking=NO_THOUGHT)
    assert thinking.content[0].type == "thinking"
    assert [block.type for block in plain.content] == ["text"]


@pytest.mark.parametrize(
    ("fields", "status", "kind", "param"),
    [
        ({"model": "none"}, 404, "not_found_error", "model"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
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
    claude: AsyncAnthropic,
    fields: dict[str, Any],
    status: int,
    kind: str,
    param: str,
    stream: bool,
) -> None:
    error, told = await refused(ask(claude, **{"stream": stream, **fields}))
    assert (error.status_code, told["type"], told["param"]) == (status, kind, param)


async def test_a_wrong_key(served: Fabric) -> None:
    async with AsyncAnthropic(
        base_url=served.url, api_key="sk-wrong", max_retries=0, timeout=PATIENCE
    ) as stranger:
        error, told = await refused(ask(stranger))
    assert isinstance(error, anthropic.AuthenticationError)
    assert told["type"] == "authentication_error"


async def test_the_sync_client(served: Fabric) -> None:
    def call() -> tuple[str, str]:
        with Anthropic(base_url=served.url, api_key=KEY) as claude:
            body: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": 24}
            body["extra_body"] = COLD
            whole: Any = claude.messages.create(**body)
            with claude.messages.stream(**body) as stream:
                return whole.content[0].text, "".join(stream.text_stream)

    whole, streamed = await asyncio.to_thread(call)
    assert "Paris" in whole
    assert streamed == whole


async def test_the_models_as_its_clients_list_them(claude: AsyncAnthropic) -> None:
    whole = await claude.models.list(limit=1000)
    names = [model.id for model in whole.data]
    assert {MODEL, ALIAS} <= set(names)
    assert not whole.has_more
    by_ones = [model.id async for model in claude.models.list(limit=1)]
    assert by_ones == names, "page after page"
    back = [model.id async for model in claude.models.list(limit=1, before_id=names[-1])]
    assert back == names[-2::-1]
    found = await claude.models.retrieve(MODEL)
    assert found in whole.data
    assert (found.type, found.display_name, found.lifecycle) == ("model", MODEL, "active")
    assert found.created_at.year > 2000
    assert found.max_input_tokens
    fault, error = await refused(claude.models.retrieve("nobody"))
    assert (fault.status_code, error["type"]) == (404, "not_found_error")

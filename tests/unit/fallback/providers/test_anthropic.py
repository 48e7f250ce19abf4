"""Anthropic: messages as they are, chat where its compatible surface is honest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fallback.cost.spent import NOTHING
from fallback.providers.base import Provider, ProviderFault, Task
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Anthropic, broken, cut, refuse, unfinished
from tests.unit.fallback.providers.tasks import ASKED_FOR, KEY, chat, opened, same, task

STREAMED = pytest.mark.parametrize("stream", [False, True])
MODEL = "claude-haiku-4-5"
CHAT = "/v1/chat/completions"


@pytest.fixture
async def sim() -> AsyncIterator[Anthropic]:
    async with Anthropic(key=KEY) as found:
        yield found


@pytest.fixture
async def cloud(sim: Anthropic, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    async with opened(monkeypatch, "anthropic", sim.url + "/v1") as provider:
        yield provider


def message(said: str = "say #one two three", **more: Any) -> Task:
    told = {"messages": [{"role": "user", "content": said}], "max_tokens": 50}
    return task("/v1/messages", MODEL, **{**told, **more})


@STREAMED
async def test_messages(cloud: Provider, sim: Anthropic, stream: bool) -> None:
    sink = RecordingSink()
    asked = message(stream=stream, top_k=3)
    assert cloud.unfit(asked) == ""
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    answer = sink.events[0]["message"] if stream else sink.document
    assert answer["model"] == ASKED_FOR
    if stream:
        assert b"event: message_stop" in sink.body
    assert "authorization" not in {name.lower() for name in sim.record.requests[0].headers}


@STREAMED
async def test_chat(cloud: Provider, sim: Anthropic, stream: bool) -> None:
    sink = RecordingSink()
    spent = await cloud.call(chat(MODEL, stream=stream), sink)
    assert same(spent, sim)
    assert ASKED_FOR.encode() in sink.body
    assert "x-api-key" not in {name.lower() for name in sim.record.requests[0].headers}


async def test_counting_is_free(cloud: Provider) -> None:
    sink = RecordingSink()
    told = [{"role": "user", "content": "one two"}]
    assert (
        await cloud.call(task("/v1/messages/count_tokens", MODEL, messages=told), sink) == NOTHING
    )
    assert sink.document == {"input_tokens": 2}


async def test_its_refusals_are_told_in_one_way(cloud: Provider, sim: Anthropic) -> None:
    sim.faults.add(refuse(400, message="messages: nonsense"))
    sink = RecordingSink()
    assert await cloud.call(message(), sink) == NOTHING
    error = sink.document["error"]
    assert error["message"] == "messages: nonsense"
    assert error["source"] == "provider:cloud"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refuse(529), "busy"),
        (refuse(429, retry_after=2), "busy"),
        (refuse(401), "key"),
        (refuse(400, message="Your credit balance is too low to access it."), "key"),
        (refuse(404, message="model: claude-none"), "absent"),
        (refuse(500), "failed"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_its_faults(cloud: Provider, sim: Anthropic, fault: Any, reason: str) -> None:
    sim.faults.add(fault)
    with pytest.raises(ProviderFault) as caught:
        await cloud.call(message(), RecordingSink())
    assert caught.value.reason == reason


@pytest.mark.parametrize("fault", [broken(2), cut(2), unfinished(2)])
async def test_in_mid_stream_the_prompt_is_told_already(
    cloud: Provider, sim: Anthropic, fault: Any
) -> None:
    sim.faults.add(fault)
    sink = RecordingSink()
    asked = message(stream=True)
    with pytest.raises(ProviderFault):
        await cloud.call(asked, sink)
    assert sink.body
    assert b"event: error" not in sink.body
    assert asked.spent.prompt == sim.record.requests[0].used.input


def with_tool(**tool: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", **tool}}]}


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"n": 2},
        {"logprobs": True},
        {"seed": 0},
        {"temperature": 1.5},
        {"frequency_penalty": 1},
        with_tool(strict=True),
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ],
)
async def test_what_its_chat_would_drop(cloud: Provider, more: dict[str, Any]) -> None:
    assert cloud.unfit(chat(MODEL, **more) if "messages" not in more else task(CHAT, MODEL, **more))


@pytest.mark.parametrize(
    "more",
    [
        {"n": 1, "temperature": 1, "response_format": {"type": "text"}, "stop": ["x"]},
        with_tool(),
        {"temperature": 1.5, "seed": 1, "lenient": True},
        {"reasoning_effort": "high", "prediction": {"type": "content", "content": "x"}},
    ],
)
async def test_what_its_chat_takes(cloud: Provider, more: dict[str, Any]) -> None:
    assert cloud.unfit(chat(MODEL, **more)) == ""


@pytest.mark.parametrize("kind", ["web_search_20250305", "code_execution_20250825"])
async def test_tools_that_cost_extra_are_not_run(cloud: Provider, kind: str) -> None:
    assert "charged" in cloud.unfit(message(tools=[{"type": kind, "name": "t"}]))
    assert cloud.unfit(message(tools=[{"type": "bash_20250124", "name": "bash"}])) == ""

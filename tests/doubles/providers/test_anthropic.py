"""The simulator of Anthropic, through its own client and OpenAI's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from tests.doubles.providers import Anthropic, broken, refuse

KEY = "sk-ant-simulated"
MODEL = "claude-haiku-4-5"


@pytest.fixture
async def sim() -> AsyncIterator[Anthropic]:
    async with Anthropic(key=KEY) as opened:
        yield opened


@pytest.fixture
async def client(sim: Anthropic) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=sim.url, api_key=KEY, max_retries=0) as opened:
        yield opened


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def test_messages(sim: Anthropic, client: anthropic.AsyncAnthropic) -> None:
    sim.pace.cached = 1
    raw = await client.messages.with_raw_response.create(
        model=MODEL, max_tokens=2, messages=[user("say #m now")], system="be brief"
    )
    made: Any = await raw.parse()
    assert (made.content[0].text, made.stop_reason) == ("#m now", "max_tokens")
    usage = made.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 1, 2)
    assert made.model == "claude-haiku-4-5-20251001"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "9999"
    assert raw.headers["request-id"].startswith("req_")
    assert sim.record.requests[0].used.input == 5


async def test_messages_stream(sim: Anthropic, client: anthropic.AsyncAnthropic) -> None:
    kinds = []
    async with client.messages.stream(
        model=MODEL, max_tokens=9, messages=[user("one two")]
    ) as stream:
        async for event in stream:
            kinds.append(event.type)
        final: Any = await stream.get_final_message()
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-1] == "message_stop"
    assert (final.content[0].text, final.usage.output_tokens) == ("one two", 2)
    assert final.stop_reason == "end_turn"


async def test_tools_and_counts(client: anthropic.AsyncAnthropic) -> None:
    schema: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools: Any = [{"name": "weather", "input_schema": schema}]
    async with client.messages.stream(
        model=MODEL, max_tokens=9, messages=[user("the weather")], tools=tools
    ) as stream:
        final: Any = await stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert (final.content[0].name, final.content[0].input) == ("weather", {"city": "word"})
    counted = await client.messages.count_tokens(model=MODEL, messages=[user("a b c")])
    assert counted.input_tokens == 3


async def test_a_prefill_is_continued_but_not_by_the_newest(
    client: anthropic.AsyncAnthropic,
) -> None:
    begun: Any = [user("one two three four"), {"role": "assistant", "content": "one two"}]
    made: Any = await client.messages.create(model=MODEL, max_tokens=9, messages=begun)
    assert made.content[0].text == " three four"
    with pytest.raises(anthropic.BadRequestError, match="does not support assistant message"):
        await client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=begun)


async def test_errors(sim: Anthropic, client: anthropic.AsyncAnthropic) -> None:
    sim.faults.add(refuse(529), refuse(429, retry_after=3))
    with pytest.raises(anthropic.APIStatusError) as busy:
        await client.messages.create(model=MODEL, max_tokens=1, messages=[user("x")])
    body: Any = busy.value.body
    assert (busy.value.status_code, body["error"]["type"]) == (529, "overloaded_error")
    assert body["request_id"] == busy.value.response.headers["request-id"]
    with pytest.raises(anthropic.RateLimitError) as limited:
        await client.messages.create(model=MODEL, max_tokens=1, messages=[user("x")])
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="wrong").messages.create(
            model=MODEL, max_tokens=1, messages=[user("x")]
        )
    with pytest.raises(anthropic.NotFoundError, match="model: nothing"):
        await client.messages.create(model="nothing", max_tokens=1, messages=[user("x")])


async def test_a_stream_breaks_by_an_event(
    sim: Anthropic, client: anthropic.AsyncAnthropic
) -> None:
    sim.faults.add(broken(after=1, status=529))
    with pytest.raises(anthropic.APIStatusError) as failed:
        async with client.messages.stream(
            model=MODEL, max_tokens=9, messages=[user("one two")]
        ) as stream:
            await stream.get_final_message()
    assert "overloaded_error" in str(failed.value.body)
    assert sim.record.requests[0].used.output == 1


async def test_the_version_is_required(sim: Anthropic) -> None:
    body = {"model": MODEL, "max_tokens": 1, "messages": [user("x")]}
    async with (
        aiohttp.ClientSession(headers={"x-api-key": KEY}) as client,
        client.post(f"{sim.url}/v1/messages", json=body) as answer,
    ):
        assert answer.status == 400
        found = await answer.json()
    assert found["error"]["message"] == "anthropic-version: header is required"


async def test_the_compatible_chat(sim: Anthropic) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1]}}}
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0) as client:
        made = await client.chat.completions.create(
            model=MODEL, messages=[user("one two")], response_format=schema
        )
        assert made.choices[0].message.content == "one two"
        assert made.usage is not None
        assert made.usage.total_tokens == 4
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model=MODEL, messages=[user("x")], n=2)

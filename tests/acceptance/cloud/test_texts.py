"""Every endpoint for text with nothing but providers behind it, streamed and not: right, sent once,
and paid to the unit by the provider's own count. What no provider can do is said at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import pytest

from tests.acceptance.cloud.shared import ROUTES, AllProviders, user
from tests.doubles.sdserver.pictures import png

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
PNG = png(8, 8, b"\x80" * 24)
WEATHER: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL: Any = {"type": "function", "strict": None, **WEATHER}


# Texts


async def test_models_say_that_they_are_providers(cloud: AllProviders) -> None:
    listed = {model.id: model.model_extra async for model in cloud.client.models.list()}
    assert listed.keys() >= ROUTES.keys()
    for name, where in ROUTES.items():
        told: Any = listed[name]
        assert told["headrace"]["providers"] == [where.partition("/")[0]]
        assert told["headrace"]["nodes"] == []
        assert (await cloud.client.models.retrieve(name)).id == name


@pytest.mark.parametrize("model", ["text", "some"])
@pytest.mark.parametrize("stream", [False, True])
async def test_completions(cloud: AllProviders, model: str, stream: bool) -> None:
    raw = await cloud.client.completions.with_raw_response.create(
        model=model, prompt="go #c one two", max_tokens=4, stream=stream
    )
    made: Any = raw.parse()
    chunks = [chunk async for chunk in made] if stream else [made]
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "#c one two go"
    assert {chunk.model for chunk in chunks} == {model}
    assert (await cloud.billed(model, raw.headers)).used.output == 4


async def test_completions_of_many_prompts(cloud: AllProviders) -> None:
    """Each is answered up to the limit, and all of it was reserved."""
    raw = await cloud.client.completions.with_raw_response.create(
        model="text", prompt=["#c " + "one " * 59] * 64, max_tokens=50
    )
    assert len(raw.parse().choices) == 64
    assert (await cloud.billed("text", raw.headers)).used.output == 64 * 50


@pytest.mark.parametrize("stream", [False, True])
async def test_responses(cloud: AllProviders, stream: bool) -> None:
    raw = await cloud.client.responses.with_raw_response.create(
        model="chat", input="say #r one", instructions="be brief", stream=stream
    )
    made: Any = raw.parse()
    if stream:
        events = [event async for event in made]
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert text == "#r one say"
        made = events[-1].response
        assert {e.response.model for e in events if hasattr(e, "response")} == {"chat"}
    assert (made.output_text, made.model, made.status) == ("#r one say", "chat", "completed")
    sent = await cloud.billed("chat", raw.headers)
    assert (made.usage.input_tokens, made.usage.output_tokens) == (5, 3)
    assert sent.body["store"] is False


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_with_tools(cloud: AllProviders, stream: bool) -> None:
    raw = await cloud.client.responses.with_raw_response.create(
        model="chat",
        input="what weather is it",
        tools=[TOOL],
        stream=stream,
    )
    made: Any = raw.parse()
    if stream:
        made = [event async for event in made][-1].response
    [call] = made.output
    assert (call.type, call.name) == ("function_call", "weather")
    assert json.loads(call.arguments).keys() <= {"city"}
    await cloud.billed("chat", raw.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_messages(
    cloud: AllProviders, claude: anthropic.AsyncAnthropic, stream: bool
) -> None:
    raw = await claude.messages.with_raw_response.create(
        model="claude",
        max_tokens=4,
        system="be brief",
        messages=user("say #m one two"),
        stream=stream,
    )
    made: Any = await raw.parse()
    if stream:
        events = [event async for event in made]
        assert events[0].message.model == "claude"
        found = [e.delta.text for e in events if e.type == "content_block_delta"]
        assert ("".join(found), events[-1].type) == ("#m one two say", "message_stop")
    else:
        assert (made.content[0].text, made.model) == ("#m one two say", "claude")
    sent = await cloud.billed("claude", raw.headers)
    assert (sent.used.input, sent.used.output) == (6, 4)


@pytest.mark.parametrize("stream", [False, True])
async def test_messages_with_tools(
    cloud: AllProviders, claude: anthropic.AsyncAnthropic, stream: bool
) -> None:
    tool: Any = {"name": "weather", "input_schema": WEATHER["parameters"]}
    raw = await claude.messages.with_raw_response.create(
        model="claude",
        max_tokens=50,
        messages=user("what weather is it"),
        tools=[tool],
        stream=stream,
    )
    made: Any = await raw.parse()
    if stream:
        starts = [e.content_block async for e in made if e.type == "content_block_start"]
        [block] = starts
    else:
        [block] = made.content
        assert made.stop_reason == "tool_use"
    assert (block.type, block.name) == ("tool_use", "weather")
    await cloud.billed("claude", raw.headers)


async def test_messages_with_a_cache(cloud: AllProviders, claude: anthropic.AsyncAnthropic) -> None:
    pace = cloud.sims["anthropic"].pace
    pace.cached = 3
    try:
        for stream in (False, True):
            raw = await claude.messages.with_raw_response.create(
                model="claude", max_tokens=2, messages=user("#m a b c d"), stream=stream
            )
            made: Any = await raw.parse()
            assert [event async for event in made] if stream else made.content
            assert (await cloud.billed("claude", raw.headers)).used.cached == 3
    finally:
        pace.cached = 0


@pytest.mark.parametrize("mark", [{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
async def test_messages_that_fill_a_cache(
    cloud: AllProviders, claude: anthropic.AsyncAnthropic, mark: Any
) -> None:
    text: Any = [{"type": "text", "text": "#m " + "a " * 999, "cache_control": mark}]
    for stream in (False, True):
        raw = await claude.messages.with_raw_response.create(
            model="claude",
            max_tokens=2,
            messages=[{"role": "user", "content": text}],
            stream=stream,
        )
        made: Any = await raw.parse()
        assert [event async for event in made] if stream else made.content
        stored = (await cloud.billed("claude", raw.headers)).used.stored
        assert stored == 1000 * (4 if "ttl" in mark else 1)


async def test_tokens_are_counted_for_nothing(
    cloud: AllProviders, claude: anthropic.AsyncAnthropic
) -> None:
    raw = await claude.messages.with_raw_response.count_tokens(
        model="claude", messages=user("one two three")
    )
    assert (await raw.parse()).input_tokens == 3
    assert (await cloud.billed("claude", raw.headers)).used.output == 0


# What cannot be had


ASKED: Any = {
    "/v1/chat/completions": {"messages": user("x")},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/responses": {"input": "x"},
    "/v1/messages": {"messages": user("x"), "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": user("x")},
    "/v1/images/generations": {"prompt": "x"},
    "/v1/audio/speech": {"input": "x", "voice": "alloy"},
    "/v1/rerank": {"query": "x", "documents": ["x"]},
}
FORMS: Any = {
    "/v1/audio/transcriptions": {"file": b"RIFF"},
    "/v1/audio/translations": {"file": b"RIFF"},
    "/v1/images/edits": {"image": PNG, "prompt": "x"},
}


async def refused(cloud: AllProviders, path: str, model: str) -> tuple[int, str]:
    """(status, message) of a request for a model that does not have the endpoint."""
    data: Any = {"json": {"model": model, **ASKED[path]}} if path in ASKED else None
    if data is None:
        form = aiohttp.FormData({"model": model})
        for name, value in FORMS[path].items():
            form.add_field(name, value, filename="a" if name != "prompt" else None)
        data = {"data": form}
    fabric = cloud.setup.fabric
    url, headers = fabric.url + path, fabric.headers
    async with asyncio.timeout(30), fabric.session.post(url, headers=headers, **data) as answer:
        return answer.status, (await answer.json())["error"]["message"]


@pytest.mark.parametrize("path", [*ASKED, *FORMS])
async def test_an_endpoint_that_no_provider_has(cloud: AllProviders, path: str) -> None:
    """At once, for each model that lacks it, and nothing is sent."""
    lacking = {
        "embed": "/v1/embeddings",
        "hear": "/v1/audio/",
        "nano/banana": "/v1/images/generations",
        "gemini": "/v1/chat/completions",
    }
    for model, has in lacking.items():
        if not path.startswith(has):
            status, message = await refused(cloud, path, model)
            assert 400 <= status < 500, (model, message)
            assert path in message, (model, message)
            assert model in message
    assert not any(cloud.sent(name) for name in cloud.sims)
    assert await cloud.paid() == 0


async def hopeless(cloud: AllProviders, text: str) -> tuple[int, str]:
    """(exit code, what is printed beside the log) of a fallback with these tables."""
    with pytest.raises(AssertionError, match="ended without fallback"):
        await cloud.setup.fabric.fallback(text)
    process = cloud.setup.fabric.processes[-1]
    assert not [line for line in process.lines if line["level"] not in ("debug", "info")]
    return await process.inner.wait(), "".join(process.noise)


def tables(model: str, key: str) -> str:
    return (
        f'[[providers]]\nname = "p"\nkind = "openai"\n{key}\n'
        f'[[route]]\nname = "r"\nproviders = ["p/{model}"]\n'
    )


async def test_a_missing_price(cloud: AllProviders, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-0123456789abcdef")
    code, said = await hopeless(cloud, tables("gpt-unheard-of", f'key_file = "{tmp_path}/key"'))
    assert code == 1, said
    assert "no price is known for p/gpt-unheard-of" in said
    assert len(said.strip().splitlines()) == 1, said


async def test_a_missing_key(cloud: AllProviders) -> None:
    code, said = await hopeless(cloud, tables("gpt-4o-mini", 'key_env = "NO_SUCH_KEY"'))
    assert code == 1, said
    assert "the environment variable NO_SUCH_KEY is empty or not there" in said
    assert len(said.strip().splitlines()) == 1, said

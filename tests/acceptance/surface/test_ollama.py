"""Ollama's own client library against the fabric."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ollama import AsyncClient, ResponseError

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.servers import (
    EMBEDDINGS_MODEL,
    RANKING_MODEL,
    THINKING_MODEL,
    TOOLS_MODEL,
)
from tests.fabric import KEY, Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")

ALIAS = "gpt-4o-mini"
QUESTION = "What is the capital of France? One sentence."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
COLD: Any = {"temperature": 0, "num_predict": 32}
SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


def get_weather(city: str) -> str:
    """Get the weather of a city.

    Args:
      city: the name of the city
    """
    return f"It rains in {city}."


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def ollama(served: Fabric) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(served.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


async def test_a_chat_streamed_and_not(ollama: AsyncClient) -> None:
    answer = await ollama.chat(MODEL, MESSAGES, options=COLD)
    stream = await ollama.chat(MODEL, MESSAGES, options=COLD, stream=True)
    parts = [part async for part in stream]
    assert "Paris" in (answer.message.content or "")
    assert "".join(part.message.content or "" for part in parts) == answer.message.content
    assert len(parts) > 3
    for last in (answer, parts[-1]):
        assert (last.model, last.done, last.done_reason) == (MODEL, True, "stop")
        assert (last.prompt_eval_count or 0) > (last.eval_count or 0) > 3
        assert 0 < (last.eval_duration or 0) < (last.total_duration or 0)
    assert parts[-1].eval_count == answer.eval_count


async def test_a_prompt_is_answered(ollama: AsyncClient) -> None:
    answer = await ollama.generate(MODEL, QUESTION, system="Be short.", options=COLD)
    stream = await ollama.generate(MODEL, QUESTION, system="Be short.", options=COLD, stream=True)
    assert "".join([part.response or "" async for part in stream]) == answer.response
    cut = await ollama.generate(MODEL, "One, two,", raw=True, options={**COLD, "num_predict": 2})
    assert (cut.eval_count, cut.done_reason) == (2, "length")


async def test_a_context_is_remembered(ollama: AsyncClient) -> None:
    named = await ollama.generate(MODEL, "My name is Ada. Say hi.", options=COLD)
    known = await ollama.generate(MODEL, "And now?", context=named.context, options=COLD)
    fresh = await ollama.generate(MODEL, "And now?", options=COLD)
    assert (known.prompt_eval_count or 0) > (fresh.prompt_eval_count or 0) + (named.eval_count or 0)


async def test_a_model_is_loaded_already(ollama: AsyncClient) -> None:
    assert (await ollama.generate(MODEL)).done_reason == "load"
    assert (await ollama.chat(MODEL, [], keep_alive=0)).done_reason == "unload"


async def test_options_stop_and_change_the_answer(ollama: AsyncClient) -> None:
    whole = await ollama.chat(MODEL, MESSAGES, options=COLD)
    stopped = await ollama.chat(MODEL, MESSAGES, options={**COLD, "stop": ["Paris"]})
    assert "Paris" not in (stopped.message.content or "")
    assert (whole.message.content or "").startswith(stopped.message.content or "")
    wild: Any = {"temperature": 1.5, "num_predict": 8, "num_ctx": 4096, "top_k": 50}
    told = [
        await ollama.chat(MODEL, MESSAGES, options={**wild, "seed": seed}) for seed in (1, 1, 2)
    ]
    one, same, other = (each.message.content for each in told)
    assert one == same != other


@pytest.mark.parametrize("stream", [True, False])
async def test_a_format_is_held(ollama: AsyncClient, stream: bool) -> None:
    options: Any = {"temperature": 0, "num_predict": 60}
    if stream:
        parts = await ollama.chat(MODEL, MESSAGES, format=SCHEMA, options=options, stream=True)
        text = "".join([part.message.content or "" async for part in parts])
    else:
        answer = await ollama.chat(MODEL, MESSAGES, format=SCHEMA, options=options)
        text = answer.message.content or ""
    assert json.loads(text).keys() == {"city", "people"}


def asked_before(city: str) -> list[Any]:
    """The small model does as it did before, so it calls again."""
    call = {"function": {"name": "get_weather", "arguments": {"city": city}}}
    return [
        {"role": "user", "content": f"Weather in {city}?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": get_weather(city), "tool_name": "get_weather"},
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
async def test_a_tool_is_called(ollama: AsyncClient, model: str, stream: bool) -> None:
    before = [turn for city in ("Rome", "Oslo", "Berlin") for turn in asked_before(city)]
    asked: Any = [*before, {"role": "user", "content": "Weather in Paris?"}]
    long: Any = {"temperature": 0, "num_predict": 80}
    if stream:
        parts = await ollama.chat(model, asked, tools=[get_weather], options=long, stream=True)
        calls = [call async for part in parts for call in part.message.tool_calls or ()]
    else:
        answer = await ollama.chat(model, asked, tools=[get_weather], options=long)
        calls = [*(answer.message.tool_calls or ())]
    (call,) = calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})


async def test_thoughts_come_apart(ollama: AsyncClient) -> None:
    options: Any = {"temperature": 0, "num_predict": 8}
    thinks = await ollama.chat(THINKING_MODEL, MESSAGES, think=True, options=options)
    quick = await ollama.chat(THINKING_MODEL, MESSAGES, think=False, options=options)
    assert thinks.message.thinking
    assert not quick.message.thinking
    assert quick.message.content


async def test_embeddings_have_length_one(ollama: AsyncClient) -> None:
    found = await ollama.embed(EMBEDDINGS_MODEL, ["a water wheel", "an invoice"])
    assert [math.hypot(*vector) for vector in found.embeddings] == pytest.approx([1, 1], abs=1e-3)
    one = await ollama.embed(EMBEDDINGS_MODEL, "a water wheel")
    older = await ollama.embeddings(EMBEDDINGS_MODEL, "a water wheel")
    assert list(one.embeddings[0]) == pytest.approx(list(found.embeddings[0]), abs=1e-3)
    assert list(older.embedding) == pytest.approx(list(one.embeddings[0]), abs=1e-3)
    assert (found.prompt_eval_count or 0) > (one.prompt_eval_count or 0) > 2


async def test_models_are_listed_and_shown(ollama: AsyncClient) -> None:
    listed = {each.model or "": each for each in (await ollama.list()).models}
    assert {f"{MODEL}:latest", f"{ALIAS}:latest", f"{EMBEDDINGS_MODEL}:latest"} <= listed.keys()
    assert {each.model for each in (await ollama.ps()).models} < listed.keys()
    for name in listed:
        shown = await ollama.show(name)
        assert shown.modified_at
        assert shown.capabilities or name.startswith(RANKING_MODEL)
    chat, vectors = await ollama.show(TOOLS_MODEL), await ollama.show(EMBEDDINGS_MODEL)
    assert {"completion", "tools"} <= set(chat.capabilities or ())
    assert vectors.capabilities == ["embedding"]
    assert (chat.modelinfo or {})["headrace.context_length"] > 0
    answer = await ollama.chat(f"{ALIAS}:latest", MESSAGES, options=COLD)
    assert answer.model == f"{ALIAS}:latest"


async def test_errors_are_the_clients_own(ollama: AsyncClient, served: Fabric) -> None:
    long: Any = [{"role": "user", "content": "word " * 20000}]
    async with AsyncClient(served.url, headers={"authorization": "Bearer wrong"}) as stranger:
        for call, status, word in (
            (lambda: ollama.chat("no-such-model", MESSAGES), 404, "no-such-model"),
            (lambda: ollama.chat(EMBEDDINGS_MODEL, MESSAGES), 400, "has no"),
            (lambda: ollama.chat(MODEL, long), 400, "context"),
            (lambda: ollama.chat(MODEL, MESSAGES, options={"top_k": "many"}), 400, "options.top_k"),
            (lambda: ollama.pull("llama3.2"), 400, "pulled"),
            (stranger.list, 401, "key"),
        ):
            with pytest.raises(ResponseError) as caught:
                await call()
            assert (caught.value.status_code, word in caught.value.error) == (status, True)

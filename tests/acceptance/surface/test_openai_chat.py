"""OpenAI's client library against the fabric: models, and what every chat can ask for."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import ALIAS, QUESTION, STORY, chat, said
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, TOOLS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_models_and_aliases_with_slashes_too(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {MODEL, TOOLS_MODEL, EMBEDDINGS_MODEL, ALIAS} <= set(listed)
    shown = await client.models.retrieve(EMBEDDINGS_MODEL)
    assert (shown.id, shown.object) == (EMBEDDINGS_MODEL, "model")
    assert shown.model_extra is not None
    features = shown.model_extra["headrace"]["features"]
    assert sorted(features) == ["detokenize", "embeddings", "tokenize"]
    assert (await client.models.retrieve(ALIAS)).id == ALIAS
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no/such/model")


async def test_chat_under_another_name(client: AsyncOpenAI) -> None:
    answer = await chat(client, model=ALIAS)
    assert "Paris" in said(answer)
    assert answer.model == ALIAS
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.timings["predicted_n"] == answer.usage.completion_tokens, "the engine's own field"
    chunks = [chunk async for chunk in await chat(client, model=ALIAS, stream=True)]
    assert {chunk.model for chunk in chunks} == {ALIAS}
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == said(answer)
    assert chunks[-1].usage is None


async def test_usage_comes_last_in_a_stream(client: AsyncOpenAI) -> None:
    whole = await chat(client)
    options = {"include_usage": True}
    stream = await chat(client, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


async def test_the_stream_helper(client: AsyncOpenAI) -> None:
    manager = client.chat.completions.stream(model=MODEL, messages=QUESTION, temperature=0)
    async with manager as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert "Paris" in (final.choices[0].message.content or "")
    assert final.choices[0].finish_reason == "stop"


async def test_limits(client: AsyncOpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        body = {"max_tokens": openai.omit, name: 3}
        answer = await chat(client, STORY, **body)
        assert answer.usage.completion_tokens == 3
        assert answer.choices[0].finish_reason == "length"


async def test_a_seed_repeats_and_another_does_not(client: AsyncOpenAI) -> None:
    hot = {"temperature": 1.5, "max_tokens": 16}
    first, same, *others = [
        said(await chat(client, STORY, seed=seed, **hot)) for seed in (7, 7, 8, 9)
    ]
    assert first == same
    assert set(others) != {first}


async def test_temperature_and_top_p(client: AsyncOpenAI) -> None:
    cold = {said(await chat(client, STORY, temperature=0)) for _ in range(2)}
    narrow = {said(await chat(client, STORY, temperature=1.9, top_p=0.00001)) for _ in range(2)}
    hot = {said(await chat(client, STORY, temperature=1.9, seed=seed)) for seed in range(3)}
    assert len(cold) == 1
    assert narrow == cold
    assert len(hot) > 1


async def test_stop(client: AsyncOpenAI) -> None:
    for stop in ("France", ["nothing like it", "France"]):
        answer = await chat(client, stop=stop)
        assert "France" not in said(answer)
        assert answer.choices[0].finish_reason == "stop"


async def test_logit_bias(client: AsyncOpenAI) -> None:
    plain = await chat(client, max_tokens=1, logprobs=True)
    token = plain.choices[0].logprobs.content[0]
    (first,) = [token.model_extra["id"]]
    banned = await chat(client, max_tokens=1, logit_bias={str(first): -100})
    assert said(banned) != said(plain)
    forced = await chat(client, STORY, max_tokens=3, logit_bias={str(first): 100})
    assert said(forced) == said(plain) * 3


BESIDE_TOOLS: Any = {
    "model": TOOLS_MODEL,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
"""The engine itself refuses log-probabilities of a stream with tools."""


@pytest.mark.parametrize("beside", [{}, BESIDE_TOOLS], ids=["alone", "tools"])
@pytest.mark.parametrize("most", [0, 3])
@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(client: AsyncOpenAI, stream: bool, most: int, beside: Any) -> None:
    wanted: Any = {"max_tokens": 4, "logprobs": True, "top_logprobs": most, **beside}
    answer = await chat(client, stream=stream, **wanted)
    if stream:
        chunks = [c.choices[0] async for c in answer]
        tokens = [token for c in chunks if c.logprobs for token in c.logprobs.content]
        text = "".join(c.delta.content or "" for c in chunks)
    else:
        tokens = answer.choices[0].logprobs.content
        text = said(answer)
    assert "".join(token.token for token in tokens) == text
    assert len(tokens) == 4
    for token in tokens:
        assert len(token.top_logprobs) == most
        best = max((top.logprob for top in token.top_logprobs), default=token.logprob)
        assert token.logprob == best, "the coldest choice"


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices(client: AsyncOpenAI, n: int, stream: bool) -> None:
    """Two are given by the engine; five are more than it has slots."""
    hot = {"temperature": 1.2, "seed": 3, "max_tokens": 8, "n": n}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = await chat(client, STORY, **hot, **options)
    if stream:
        texts = [""] * n
        async for chunk in answer:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    else:
        assert [choice.index for choice in answer.choices] == list(range(n))
        texts = [choice.message.content for choice in answer.choices]
        usage = answer.usage
    assert all(texts)
    assert len(set(texts)) > 1
    assert usage.completion_tokens == 8 * n
    alone = await chat(client, STORY, max_tokens=1)
    assert usage.prompt_tokens == alone.usage.prompt_tokens

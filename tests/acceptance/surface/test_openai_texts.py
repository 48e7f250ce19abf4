"""OpenAI's client library: text completions and embeddings."""

from __future__ import annotations

import math
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import ALIAS, refused
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_completions(client: AsyncOpenAI) -> None:
    body: Any = {"model": ALIAS, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = await client.completions.create(**body)
    stream = await client.completions.create(**body, stream=True)
    chunks = [chunk async for chunk in stream]
    assert not any(chunk.usage for chunk in chunks), "nobody asked for it"
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert {whole.model, *(chunk.model for chunk in chunks)} == {ALIAS}
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 8)


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_of_several_prompts(client: AsyncOpenAI, stream: bool) -> None:
    prompts = ["Once upon", "The sky is blue and"]
    body: Any = {"model": MODEL, "prompt": prompts, "max_tokens": 5, "temperature": 0}
    alone = [
        (await client.completions.create(**{**body, "prompt": each})).choices[0].text
        for each in prompts
    ]
    if stream:
        texts = ["", ""]
        body["stream_options"] = {"include_usage": True}
        async for chunk in await client.completions.create(**body, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        usage = chunk.usage
    else:
        whole = await client.completions.create(**body)
        texts, usage = [choice.text for choice in whole.choices], whole.usage
    assert texts == alone
    assert usage is not None
    assert usage.completion_tokens == 10


@pytest.mark.parametrize("n", [1, 3, 6])
async def test_a_streamed_completion_counts_once_and_last(client: AsyncOpenAI, n: int) -> None:
    """Six are more than the server has slots: a job for each."""
    body: Any = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 4, "n": n}
    body["stream_options"] = {"include_usage": True}
    chunks = [c async for c in await client.completions.create(**body, stream=True)]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert [(u.prompt_tokens, u.total_tokens - u.completion_tokens) for u in usages] == [(4, 4)]
    assert usages[0].completion_tokens <= 4 * n
    assert chunks[-1].choices == []
    assert {choice.index for chunk in chunks for choice in chunk.choices} == set(range(n))


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_give_logprobs_of_the_chosen_alone(
    client: AsyncOpenAI, stream: bool
) -> None:
    body: Any = {"model": MODEL, "prompt": "Once upon", "max_tokens": 3, "logprobs": 0}
    answer: Any = await client.completions.create(**body, stream=stream)
    found = [c async for c in answer] if stream else [answer]
    each = [c.choices[0].logprobs for c in found if c.choices[0].logprobs]
    assert [len(top) for one in each for top in one.top_logprobs or ()] == [0, 0, 0]
    assert all(one.token_logprobs for one in each)


async def test_completions_take_tokens_and_give_classic_logprobs(client: AsyncOpenAI) -> None:
    body: Any = {"model": MODEL, "max_tokens": 3, "temperature": 0, "logprobs": 2}
    whole = await client.completions.create(prompt=[1, 2, 3], **body)
    stream = await client.completions.create(prompt=[1, 2, 3], **body, stream=True)
    probable = whole.choices[0].logprobs
    assert probable is not None
    assert "".join(probable.tokens or ()) == whole.choices[0].text
    assert [len(top) for top in probable.top_logprobs or ()] == [2, 2, 2]
    streamed = [c.choices[0].logprobs async for c in stream if c.choices[0].logprobs]
    assert [token for each in streamed for token in each.tokens or ()] == probable.tokens
    assert [at for each in streamed for at in each.text_offset or ()] == probable.text_offset


async def test_what_asks_for_nothing_passes(client: AsyncOpenAI) -> None:
    nothing: Any = {"echo": False, "suffix": "", "n": 2, "best_of": 2, "logit_bias": {}}
    for none in (None, False):
        answer = await client.completions.create(
            model=MODEL, prompt="x", max_tokens=2, extra_body={"logprobs": none}, **nothing
        )
        assert [choice.logprobs for choice in answer.choices] == [None, None]


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"echo": True}, {"best_of": 2}])
async def test_completions_say_what_they_cannot(
    client: AsyncOpenAI, fields: dict[str, Any]
) -> None:
    error = await refused(client.completions.create(model=MODEL, prompt="x", **fields))
    assert (error.code, error.param) == ("unsupported_parameter", next(iter(fields)))


OWN_FORMS: Any = ["Once upon", {"prompt_string": "Once upon"}, [1, 2], [1, " sea", 2]]
"""llama-server's own forms of prompts, and OpenAI's beside them."""


async def test_completions_of_prompts_in_the_engines_own_forms(client: AsyncOpenAI) -> None:
    body: Any = {"model": MODEL, "max_tokens": 4, "temperature": 0}
    alone = [
        await client.completions.create(**body, prompt="", extra_body={"prompt": prompt})
        for prompt in OWN_FORMS
    ]
    both = await client.completions.create(**body, prompt="", extra_body={"prompt": OWN_FORMS})
    assert [each.text for each in both.choices] == [each.choices[0].text for each in alone]
    assert alone[0].choices[0].text == alone[1].choices[0].text
    assert [each.usage.prompt_tokens for each in alone if each.usage] == [2, 2, 2, 3]
    assert both.usage is not None
    assert both.usage.prompt_tokens == 9


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_for_each_of_them(client: AsyncOpenAI, n: int, stream: bool) -> None:
    body: Any = {"model": MODEL, "max_tokens": 2, "n": n, "prompt": "", "stream": stream}
    more = {"prompt": OWN_FORMS[:2], "stream_options": {"include_usage": True}}
    answer: Any = await client.completions.create(**body, extra_body=more)
    found = [chunk async for chunk in answer] if stream else [answer]
    assert {choice.index for each in found for choice in each.choices} == set(range(2 * n))
    (usage,) = [each.usage for each in found if each.usage]
    assert (usage.prompt_tokens, 0 < usage.completion_tokens <= 4 * n) == (4, True)


@pytest.mark.parametrize("prompt", ["", ["hi", ""], ["hi", {"prompt_string": ""}]])
async def test_several_choices_for_nothing_are_refused_at_once(
    client: AsyncOpenAI, prompt: Any
) -> None:
    """llama-server never answers them, and a slot stays taken for each."""
    body: Any = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
    error = await refused(client.completions.create(**body, n=2, timeout=60))
    assert (error.status_code, error.param) == (400, "prompt")
    assert (await client.completions.create(**body)).choices[0].finish_reason == "length"


async def vectors(client: AsyncOpenAI, texts: Any, **fields: Any) -> list[list[float]]:
    found = await client.embeddings.create(model=EMBEDDINGS_MODEL, input=texts, **fields)
    assert [item.index for item in found.data] == list(range(len(found.data)))
    return [item.embedding for item in found.data]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_embeddings_know_what_is_alike(client: AsyncOpenAI) -> None:
    cat, kitten, stocks = await vectors(
        client,
        ["A cat sat on the mat.", "A kitten rested on the rug.", "The stock market fell today."],
    )
    assert len(cat) == 384
    assert math.isclose(likeness(cat, cat), 1, abs_tol=1e-3)
    assert likeness(cat, kitten) > 0.5 > 0.2 > likeness(cat, stocks)


async def test_embeddings_in_every_form(client: AsyncOpenAI) -> None:
    """The library asks for base64 unless it is told otherwise."""
    (packed,) = await vectors(client, "hello")
    (floats,) = await vectors(client, "hello", encoding_format="float")
    (tokens,) = await vectors(client, [101, 7592, 102])
    lists = await vectors(client, [[101, 7592, 102], [101, 102]])
    assert packed == pytest.approx(floats, abs=1e-6)
    assert tokens == pytest.approx(floats, abs=1e-3)
    assert lists[0] == pytest.approx(floats, abs=1e-3)
    own = await vectors(client, ["hello", {"prompt_string": "hello"}, [101, "hello", 102]])
    assert own[0] == pytest.approx(floats, abs=1e-3)
    assert own[1] == pytest.approx(floats, abs=1e-3)
    other = {"model": EMBEDDINGS_MODEL, "content": "hello"}
    said = await client.post("/embeddings", body=other, cast_to=dict[str, Any])
    assert said["data"][0]["embedding"] == pytest.approx(floats, abs=1e-3)
    assert said["usage"]["prompt_tokens"] == 3
    (named,) = await vectors(client, "hello", dimensions=384, user="u")
    assert named == pytest.approx(floats, abs=1e-3)


async def test_embeddings_count_and_name(client: AsyncOpenAI) -> None:
    alias = "text-embedding-3-small"
    one = await client.embeddings.create(model=alias, input="hello")
    two = await client.embeddings.create(model=alias, input=["hello", "the quick brown fox"])
    assert (one.model, one.usage.prompt_tokens) == (alias, 3)
    assert two.usage.total_tokens == 9


async def test_many_embeddings(client: AsyncOpenAI) -> None:
    assert len(await vectors(client, [f"text {i}" for i in range(300)])) == 300


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": "x", "dimensions": 16}, "unsupported_parameter", "dimensions"),
        ({"input": "word " * 3000}, "context_length_exceeded", "input"),
        ({"input": []}, "invalid_request", "input"),
        ({"input": [30522]}, "invalid_request", "input"),
        ({"input": [2**40]}, "invalid_request", "input"),
        ({"input": ["x"] * 2049}, "invalid_request", "input"),
        ({"input": "x", "model": MODEL}, "unsupported_endpoint", "model"),
    ],
)
async def test_embeddings_that_cannot_be(
    client: AsyncOpenAI, fields: dict[str, Any], code: str, param: str
) -> None:
    body = {"model": EMBEDDINGS_MODEL, **fields}
    error = await refused(client.embeddings.create(**body))
    assert (error.status_code, error.code, error.param) == (400, code, param)

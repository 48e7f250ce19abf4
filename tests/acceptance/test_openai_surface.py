"""OpenAI's client library against the fabric, with real models behind it: every endpoint of texts,
streamed and not, and each feature by what it does."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface import (
    EMBEDDINGS_MODEL,
    THINKING_MODEL,
    TOOLS_MODEL,
    surface,
)
from tests.fabric import KEY, Fabric

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIAS = "gpt-4o-mini"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? One sentence."}]
STORY: Any = [{"role": "user", "content": "Tell me a story about the sea."}]
LENIENT = {"x-headrace-lenient": "true"}
THOUGHT = {"grammar": 'root ::= "hm\\n</think>\\n\\nParis"'}
"""Holds the model to a thought and an answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    async with surface(tmp_path_factory.mktemp("surface")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Fabric) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0) as made:
        yield made


async def refused(call: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await call
    return caught.value


# Models.


async def test_models_and_aliases_with_slashes_too(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {MODEL, TOOLS_MODEL, EMBEDDINGS_MODEL, ALIAS} <= set(listed)
    shown = await client.models.retrieve(EMBEDDINGS_MODEL)
    assert (shown.id, shown.object) == (EMBEDDINGS_MODEL, "model")
    assert shown.model_extra is not None
    assert shown.model_extra["headrace"]["features"] == ["embeddings"]
    assert (await client.models.retrieve(ALIAS)).id == ALIAS
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no/such/model")


# Chat.


async def chat(client: AsyncOpenAI, messages: Any = QUESTION, **fields: Any) -> Any:
    body = {"model": MODEL, "temperature": 0, "max_tokens": 24, **fields}
    return await client.chat.completions.create(messages=messages, **body)


def said(answer: Any) -> str:
    text: str = answer.choices[0].message.content
    return text


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


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(client: AsyncOpenAI, stream: bool) -> None:
    answer = await chat(client, max_tokens=4, logprobs=True, top_logprobs=3, stream=stream)
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
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs), "the coldest choice"


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


class Capital(pydantic.BaseModel):
    city: str
    inhabitants: int


async def test_a_schema_holds(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Capital, max_tokens=90, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Capital)
    manager = client.chat.completions.stream(
        model=MODEL, messages=QUESTION, response_format=Capital, max_tokens=90, temperature=0
    )
    async with manager as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Capital)


async def test_json_mode(client: AsyncOpenAI) -> None:
    short = {"response_format": {"type": "json_object"}, "max_tokens": 200}
    ask = [{"role": "user", "content": 'Write the JSON {"a": 1} and nothing else.'}]
    answer = await chat(client, ask, **short, logit_bias={"}": 3})
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(json.loads(said(answer)), dict)


async def test_a_schema_that_is_none_is_a_400(client: AsyncOpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    error = await refused(chat(client, response_format=wanted))
    assert (error.status_code, error.param) == (400, "response_format.json_schema.schema")


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def example(city: str, names: list[str]) -> list[dict[str, Any]]:
    """One exchange in which each tool is called: a small model repeats what it has seen."""
    calls = [
        {
            "type": "function",
            "id": f"{name}-{city}",
            "function": {"name": name, "arguments": json.dumps({"city": city})},
        }
        for name in names
    ]
    question = {"role": "user", "content": f"{' and '.join(names)} of {city}?"}
    return [question, {"role": "assistant", "content": "", "tool_calls": calls}]


def tool_chat(names: list[str]) -> dict[str, Any]:
    before = [message for city in ("Rome", "Oslo") for message in example(city, names)]
    return {
        "model": TOOLS_MODEL,
        "messages": [*before, example("Paris", names)[0]],
        "tools": [tool(name) for name in names],
        "max_tokens": 120,
        "parallel_tool_calls": len(names) > 1,
    }


@pytest.mark.parametrize("names", [["weather"], ["weather", "time"]])
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called(client: AsyncOpenAI, names: list[str], stream: bool) -> None:
    answer = await chat(client, **tool_chat(names), stream=stream)
    if stream:
        calls: dict[int, list[str]] = {}
        async for chunk in answer:
            for call in chunk.choices[0].delta.tool_calls or ():
                made = calls.setdefault(call.index, ["", ""])
                made[0] += call.function.name or ""
                made[1] += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason
        found = [calls[index] for index in sorted(calls)]
    else:
        finish = answer.choices[0].finish_reason
        made_calls = answer.choices[0].message.tool_calls
        found = [[call.function.name, call.function.arguments] for call in made_calls]
        assert len({call.id for call in made_calls}) == len(names)
    assert finish == "tool_calls"
    assert [name for name, _ in found] == names
    assert all(json.loads(arguments) == {"city": "Paris"} for _, arguments in found)


async def test_a_tools_result_goes_back(client: AsyncOpenAI) -> None:
    body = tool_chat(["weather"])
    first = (await chat(client, **body)).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "Rain."}
    messages = [*body["messages"], first.model_dump(exclude_none=True), result]
    answer = await chat(client, messages=messages, model=TOOLS_MODEL, tools=body["tools"])
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("f")]}, "tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"web_search_options": {}, "verbosity": "low"}, "verbosity"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"model": TOOLS_MODEL, "tools": [tool("f")], "tool_choice": "required"}, "tool_choice"),
    ],
)
async def test_what_would_do_nothing_is_refused_by_name(
    client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    error = await refused(chat(client, **fields))
    assert (error.status_code, error.code, error.param) == (400, "unsupported_parameter", param)
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, **fields}
    raw = await client.chat.completions.with_raw_response.create(**body, extra_headers=LENIENT)
    assert raw.headers["x-headrace-warning"].startswith(f"{param} has no effect: ")


async def test_what_has_no_effect_on_any_answer_passes(client: AsyncOpenAI) -> None:
    inert = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    newer = {"safety_identifier": "s", "prompt_cache_key": "k", "odd_field": {"x": [1]}}
    assert "Paris" in said(await chat(client, **inert, extra_body=newer))


async def test_the_engines_own_fields_work(client: AsyncOpenAI) -> None:
    own = {"grammar": 'root ::= "yes" | "no"', "cache_prompt": False}
    answer = await chat(client, extra_body=own)
    assert said(answer) in ("yes", "no")
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_comes_apart(client: AsyncOpenAI, stream: bool) -> None:
    answer = await chat(client, model=THINKING_MODEL, stream=stream, extra_body=THOUGHT)
    if stream:
        deltas = [chunk.choices[0].delta async for chunk in answer]
        text = "".join(delta.content or "" for delta in deltas)
        thought = "".join((d.model_extra or {}).get("reasoning_content") or "" for d in deltas)
    else:
        text, thought = said(answer), answer.choices[0].message.reasoning_content
    assert (text, thought.strip()) == ("Paris", "hm")


async def test_no_reasoning_where_none_is_wanted(client: AsyncOpenAI) -> None:
    answer = await chat(client, model=THINKING_MODEL, reasoning_effort="none", max_tokens=4)
    assert "reasoning_content" not in answer.choices[0].message.model_extra


# Text completions.


async def test_completions(client: AsyncOpenAI) -> None:
    body: Any = {"model": ALIAS, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = await client.completions.create(**body)
    stream = await client.completions.create(**body, stream=True)
    chunks = [chunk async for chunk in stream]
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


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"echo": True}, {"best_of": 2}])
async def test_completions_say_what_they_cannot(
    client: AsyncOpenAI, fields: dict[str, Any]
) -> None:
    error = await refused(client.completions.create(model=MODEL, prompt="x", **fields))
    assert (error.code, error.param) == ("unsupported_parameter", next(iter(fields)))


# Embeddings.


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


# Responses.


async def test_responses(client: AsyncOpenAI) -> None:
    body: Any = {"model": ALIAS, "input": QUESTION[0]["content"], "temperature": 0}
    whole = await client.responses.create(**body, max_output_tokens=40)
    assert "Paris" in whole.output_text
    assert (whole.model, whole.status) == (ALIAS, "completed")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    async with client.responses.stream(**body, max_output_tokens=40) as stream:
        numbers = [event.sequence_number async for event in stream]
        final = await stream.get_final_response()
    assert numbers == sorted(numbers)
    assert final.output_text == whole.output_text
    assert final.model == ALIAS


async def test_a_response_to_a_conversation(client: AsyncOpenAI) -> None:
    text = QUESTION[0]["content"]
    body: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 24}
    parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": text}]}]
    plain = await client.responses.create(input=text, **body)
    same = await client.responses.create(input=parts, **body)
    told = await client.responses.create(input=parts, instructions="Answer in French.", **body)
    assert same.output_text == plain.output_text
    assert told.usage is not None
    assert plain.usage is not None
    assert told.usage.input_tokens != plain.usage.input_tokens
    more: Any = [*parts, *plain.output, {"role": "user", "content": "And of Italy?"}]
    longer = await client.responses.create(input=more, **body)
    assert longer.usage is not None
    assert longer.usage.input_tokens > plain.usage.input_tokens + 10


async def test_a_response_that_is_cut_says_so(client: AsyncOpenAI) -> None:
    body: Any = {"model": MODEL, "input": "Tell me a story.", "max_output_tokens": 5}
    whole = await client.responses.create(**body)
    assert whole.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    events = [event async for event in await client.responses.create(**body, stream=True)]
    assert events[-1].type == "response.incomplete"


async def test_a_response_of_a_schema(client: AsyncOpenAI) -> None:
    answer = await client.responses.parse(
        model=MODEL,
        input=QUESTION[0]["content"],
        text_format=Capital,
        temperature=0,
        max_output_tokens=90,
    )
    assert isinstance(answer.output_parsed, Capital)


async def test_a_response_with_a_thought(client: AsyncOpenAI) -> None:
    answer = await client.responses.create(model=THINKING_MODEL, input="hi", extra_body=THOUGHT)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output_text == "Paris"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"model": TOOLS_MODEL, "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    ],
)
async def test_responses_say_what_they_cannot(
    client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    body: Any = {"model": MODEL, "input": "hi", **fields}
    error = await refused(client.responses.create(**body))
    assert (error.status_code, error.code, error.param) == (400, "unsupported_parameter", param)


# What cannot be.


async def test_no_model_here_ranks(served: Fabric) -> None:
    body = {"model": EMBEDDINGS_MODEL, "query": "x", "documents": ["a"]}
    async with served.session.post(
        served.url + "/v1/rerank", json=body, headers=served.headers
    ) as answer:
        found = await answer.json()
    assert (answer.status, found["error"]["code"]) == (400, "unsupported_endpoint")


async def test_errors_have_their_classes(client: AsyncOpenAI, served: Fabric) -> None:
    missing = await refused(chat(client, model="none"))
    assert isinstance(missing, openai.NotFoundError)
    assert (missing.code, missing.param) == ("model_not_found", "model")
    wrong = await refused(chat(client, model=EMBEDDINGS_MODEL))
    assert (wrong.code, wrong.param) == ("unsupported_endpoint", "model")
    long = await refused(chat(client, [{"role": "user", "content": "word " * 5000}]))
    assert isinstance(long, openai.BadRequestError)
    assert (long.code, long.param) == ("context_length_exceeded", "messages")
    assert long.request_id
    async with AsyncOpenAI(base_url=served.url + "/v1", api_key="sk-wrong") as stranger:
        assert isinstance(await refused(chat(stranger)), openai.AuthenticationError)


async def test_the_sync_client(served: Fabric) -> None:
    def call() -> tuple[str, str, int, str]:
        with OpenAI(base_url=served.url + "/v1", api_key=KEY) as client:
            body: Any = {"model": MODEL, "temperature": 0}
            stream = client.chat.completions.create(messages=QUESTION, stream=True, **body)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            completed = client.completions.create(prompt="Once upon", max_tokens=3, **body)
            embedded = client.embeddings.create(model=EMBEDDINGS_MODEL, input="hello")
            response = client.responses.create(input="Say hi.", max_output_tokens=8, **body)
            size = len(embedded.data[0].embedding)
            return text, completed.choices[0].text, size, response.output_text

    text, completed, size, response = await asyncio.to_thread(call)
    assert "Paris" in text
    assert completed
    assert size == 384
    assert response

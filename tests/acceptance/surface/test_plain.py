"""What clients send without meaning anything by it, and what small models leave in histories: taken
by real llama.cpp servers at each endpoint, with templates that know tools and others."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from schemas.api.endpoints import BY_PATH
from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import QUESTION, chat, refused, said
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, RANKING_MODEL, TOOLS_MODEL
from tests.fabric import Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")

SMALL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": TOOLS_MODEL, "messages": QUESTION, "max_tokens": 2},
    "/v1/completions": {"model": MODEL, "prompt": "Paris is", "max_tokens": 2},
    "/v1/responses": {"model": TOOLS_MODEL, "input": "hi", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"model": MODEL, "input": "hi"},
    "/v1/messages": {"model": TOOLS_MODEL, "messages": QUESTION, "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": QUESTION},
    "/v1/embeddings": {"model": EMBEDDINGS_MODEL, "input": "hi"},
    "/v1/rerank": {"model": RANKING_MODEL, "query": "hi", "documents": ["a", "b"]},
}
MODELS = [MODEL, TOOLS_MODEL]


async def post(served: Fabric, path: str, body: dict[str, Any]) -> Any:
    url, headers = served.url + path, served.headers
    async with served.session.post(url, json=body, headers=headers) as answer:
        found = await answer.json()
        assert answer.status == 200, found
        return found


@pytest.mark.parametrize("path", SMALL)
async def test_every_field_that_is_null(served: Fabric, path: str) -> None:
    names = BY_PATH[path].shape.names - SMALL[path].keys()
    await post(served, path, {**SMALL[path], **dict.fromkeys(names)})


async def test_embeddings_of_litellm(served: Fabric) -> None:
    """It always sends the field."""
    body = {**SMALL["/v1/embeddings"], "encoding_format": None}
    found = await post(served, "/v1/embeddings", body)
    assert isinstance(found["data"][0]["embedding"], list)


async def test_nulls_within_fields(client: AsyncOpenAI) -> None:
    lame: Any = {"type": "function", "function": {"name": "f", "strict": None, "parameters": {}}}
    told: Any = {"role": "user", "content": "Hi.", "name": None}
    more: Any = {"stream_options": {"include_usage": None}, "response_format": None}
    stream = await chat(client, [told], model=TOOLS_MODEL, tools=[lame], stream=True, **more)
    assert [chunk async for chunk in stream]


async def test_whole_numbers_with_a_point(client: AsyncOpenAI) -> None:
    own: Any = {"max_tokens": 3.0, "n": 2.0, "seed": 1e2}
    answer = await chat(client, **own)
    assert [len(answer.choices), answer.usage.completion_tokens] == [2, 6]


@pytest.mark.parametrize("stop", ["", [""], ["", "Paris"]])
async def test_an_empty_stop_does_not_end_the_answer(client: AsyncOpenAI, stop: Any) -> None:
    answer = await chat(client, stop=stop)
    assert said(answer)
    assert ("Paris" in said(answer)) == ("Paris" not in stop)
    text = await client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0, stop=stop
    )
    assert text.choices[0].text


async def test_an_empty_stop_of_a_message_is_refused_and_white_space_is_none(
    claude: AsyncAnthropic,
) -> None:
    body: Any = SMALL["/v1/messages"]
    with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
        await claude.messages.create(**body, stop_sequences=[""])
    assert await claude.messages.create(**body, stop_sequences=[" \n"])


ARGUMENTS = ["", "{", '{"city": "Pa', "[1]", '"x"', "null", "5", None, {"city": "Paris"}]


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("model", MODELS)
async def test_arguments_that_a_small_model_wrote(
    client: AsyncOpenAI, claude: AsyncAnthropic, model: str, arguments: Any
) -> None:
    """The agent goes on: with each API, and whether the template knows tools or not."""
    function = {"name": "weather", "arguments": arguments}
    call: Any = {"id": "c", "type": "function", "function": function}
    result = {"role": "tool", "tool_call_id": "c", "content": "Bad arguments."}
    told: Any = [*QUESTION, {"role": "assistant", "tool_calls": [call]}, result]
    assert (await chat(client, told, model=model, max_tokens=2)).usage.completion_tokens
    item: Any = {"type": "function_call", "call_id": "c", **function}
    output: Any = {"type": "function_call_output", "call_id": "c", "output": "Bad arguments."}
    response = await client.responses.create(
        model=model, input=[*QUESTION, item, output], max_output_tokens=2
    )
    assert response.usage
    use: Any = {"type": "tool_use", "id": "c", "name": "weather", "input": arguments}
    back: Any = {"type": "tool_result", "tool_use_id": "c", "content": "Bad arguments."}
    talk: Any = [
        *QUESTION,
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [back]},
    ]
    message = await claude.messages.create(model=model, messages=talk, max_tokens=2)
    assert message.usage.output_tokens


TEXT, NO = {"type": "text", "text": "Rome, then."}, {"type": "refusal", "refusal": "I won't say."}
HISTORIES: list[Any] = [
    {"role": "assistant", "content": [TEXT, NO]},
    {"role": "assistant", "content": [NO]},
    {"role": "assistant", "content": None, "refusal": "I won't say."},
    {"role": "assistant", "content": None},
    {"role": "assistant"},
    {"role": "assistant", "content": []},
    {"role": "assistant", "content": [{"type": "output_text", "text": "Rome."}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, TEXT]},
    {"role": "developer", "content": "Be brief."},
    {"role": "developer", "content": [TEXT]},
    {"role": "function", "name": "f", "content": "5"},
]


@pytest.mark.parametrize("message", HISTORIES)
@pytest.mark.parametrize("model", MODELS)
async def test_what_was_said_before(client: AsyncOpenAI, model: str, message: Any) -> None:
    told = [*QUESTION, message, *QUESTION]
    answer = await chat(client, told, model=model, max_tokens=2)
    assert answer.usage.completion_tokens


async def test_a_refusal_is_read_by_the_model(client: AsyncOpenAI) -> None:
    """It counts as the text that it is."""
    counts = []
    for parts in ([TEXT, NO], [TEXT, {"type": "text", "text": NO["refusal"]}]):
        told = [*QUESTION, {"role": "assistant", "content": parts}, *QUESTION]
        counts.append((await chat(client, told, max_tokens=1)).usage.prompt_tokens)
    assert counts[0] == counts[1]


CALL: Any = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("content", ["", [], [{"type": "text", "text": "Rain."}] * 2])
@pytest.mark.parametrize("beside", [{}, {"content": ""}, {"content": None}, {"content": [TEXT]}])
@pytest.mark.parametrize("model", MODELS)
async def test_results_of_tools(
    client: AsyncOpenAI, model: str, beside: dict[str, Any], content: Any
) -> None:
    told = {"role": "assistant", "tool_calls": [CALL], **beside}
    result = {"role": "tool", "tool_call_id": "c", "content": content}
    answer = await chat(client, [*QUESTION, told, result], model=model, max_tokens=2)
    assert answer.usage.completion_tokens


OUTPUT_TEXT = {"type": "output_text", "text": "Rome."}
ITEMS: list[Any] = [
    {"role": "assistant", "content": [OUTPUT_TEXT, NO]},
    {"role": "assistant", "content": [{"type": "input_text", "text": "Rome."}]},
    {"role": "user", "content": [TEXT, OUTPUT_TEXT]},
    {"type": "message", "role": "assistant", "content": None},
    {"role": "developer", "content": "Be brief."},
    {"type": "function_call_output", "call_id": "c", "output": None},
    {"type": "function_call_output", "call_id": "c", "output": [TEXT]},
]


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("model", MODELS)
async def test_items_of_responses(client: AsyncOpenAI, model: str, item: Any) -> None:
    call: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    before = [call] if item.get("call_id") else []
    told: Any = [*QUESTION, *before, item, *QUESTION]
    answer = await client.responses.create(model=model, input=told, max_output_tokens=2)
    assert answer.usage


async def test_what_is_no_history_is_refused_with_its_place(client: AsyncOpenAI) -> None:
    use: Any = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    for message, param in (
        ({"role": "assistant", "content": [use]}, "messages[1].content[0].type"),
        ({"role": "assistant", "content": 5}, "messages[1].content"),
        ({"role": "tool", "content": 5}, "messages[1].content"),
    ):
        error = await refused(chat(client, [*QUESTION, message]))
        assert (error.status_code, error.param) == (400, param)

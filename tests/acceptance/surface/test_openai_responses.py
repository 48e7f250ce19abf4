"""OpenAI's client library: the responses API, and the classes of errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import ALIAS, QUESTION, THOUGHT, Capital, chat, refused
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, THINKING_MODEL, TOOLS_MODEL
from tests.fabric import KEY, Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


async def test_a_history_may_be_written_plainly(client: AsyncOpenAI) -> None:
    """Without types, and with another model's thoughts, of which there is a cipher alone."""
    asked: Any = {"role": "user", "content": "And of Italy?"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    history: Any = [*QUESTION, thought, {"role": "assistant", "content": "Paris."}, asked]
    body: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 4}
    short = await client.responses.create(input=[*QUESTION, asked], **body)
    whole = await client.responses.create(input=history, **body)
    assert short.usage is not None
    assert whole.usage is not None
    assert whole.usage.input_tokens > short.usage.input_tokens


async def test_the_tokens_of_an_input_are_counted(client: AsyncOpenAI) -> None:
    history: Any = [*QUESTION, {"role": "assistant", "content": "Paris."}]
    found = await client.responses.input_tokens.count(model=ALIAS, input=QUESTION[0]["content"])
    longer = await client.responses.input_tokens.count(model=MODEL, input=history)
    answer = await client.responses.create(model=MODEL, input=QUESTION[0]["content"])
    assert answer.usage is not None
    assert longer.input_tokens > found.input_tokens == answer.usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        await client.responses.input_tokens.count(model=MODEL, previous_response_id="r", input="x")


async def test_what_is_null_or_nought_asks_for_nothing(client: AsyncOpenAI) -> None:
    lame: Any = {"type": "function", "name": "f", "description": None, "parameters": {}}
    body: Any = {"max_output_tokens": 2, "temperature": 0, "top_logprobs": 0}
    ask: Any = [{**QUESTION[0], "name": None, "id": None}]
    for more in ({"model": MODEL, "tools": None}, {"model": TOOLS_MODEL, "tools": [lame]}):
        assert (await client.responses.create(input=ask, **body, **more)).output_text
    usual: Any = {"reasoning": {"effort": "medium", "summary": "auto"}, "store": True}
    usual["text"] = {"format": {"type": "text"}, "verbosity": "medium"}
    assert (await client.responses.create(model=MODEL, input=ask, **body, **usual)).output_text


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


async def test_a_thought_is_streamed_as_a_part(client: AsyncOpenAI) -> None:
    body: Any = {"model": THINKING_MODEL, "input": "hi", "extra_body": THOUGHT}
    async with client.responses.stream(**body) as stream:
        events: list[Any] = [event async for event in stream]
        final = await stream.get_final_response()
    thought = [event for event in events if event.type.startswith("response.reasoning_text.")]
    assert {(event.output_index, event.content_index) for event in thought} == {(0, 0)}
    assert (thought[-1].type, thought[-1].text) == ("response.reasoning_text.done", "hm\n")
    parts = [event.part.type for event in events if event.type == "response.content_part.added"]
    assert parts == ["reasoning_text", "output_text"]
    assert final.output_text == "Paris"
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens > 0


def calls(city: str) -> list[dict[str, Any]]:
    """As client libraries write what was said before, with as little as OpenAI asks for."""
    call = {"call_id": f"call-{city}", "name": "weather", "arguments": f'{{"city": "{city}"}}'}
    return [
        {"role": "user", "content": f"weather of {city}?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""},
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": f"call-{city}", "output": "Rain."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
    ]


async def test_a_response_that_calls(client: AsyncOpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "name": "weather", "parameters": parameters, "strict": False}
    before = [item for city in ("Rome", "Oslo", "Bonn") for item in calls(city)]
    body: Any = {
        "model": TOOLS_MODEL,
        "input": [*before, {"role": "user", "content": "weather of Paris?"}],
        "tools": [tool],
        "temperature": 0,
        "max_output_tokens": 100,
    }
    async with client.responses.stream(**body) as stream:
        events: list[Any] = [event async for event in stream]
        final: Any = await stream.get_final_response()
    (call,) = [item for item in final.output if item.type == "function_call"]
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == [call.arguments] == ['{"city": "Paris"}']
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    after = await client.responses.create(
        **{**body, "input": [*body["input"], *final.output, told]}
    )
    assert after.status == "completed"


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
async def test_a_response_that_has_to_call(client: AsyncOpenAI, model: str, choice: Any) -> None:
    """With a template that knows no tools, and with one that leaves it to the model."""
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }
    tool: Any = {"type": "function", "name": "weather", "parameters": parameters, "strict": False}
    question = {"role": "user", "content": "What is the weather in Paris?"}
    body: Any = {"model": model, "input": [question], "tools": [tool], "temperature": 0}
    async with client.responses.stream(**body, tool_choice=choice) as stream:
        events: list[Any] = [event async for event in stream]
        final: Any = await stream.get_final_response()
    (call,) = final.output
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert json.loads(call.arguments).keys() == {"city"}
    whole: Any = await client.responses.create(**body, tool_choice=choice)
    assert [item.type for item in whole.output] == ["function_call"]
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    body["input"] = [question, *final.output, told]
    after = await client.responses.create(**body, max_output_tokens=40)
    assert after.output
    counted = await client.responses.input_tokens.count(
        model=model, input=body["input"], tools=[tool]
    )
    assert counted.input_tokens == after.usage.input_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"model": TOOLS_MODEL, "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
async def test_responses_say_what_they_cannot(
    client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    body: Any = {"model": MODEL, "input": "hi", **fields}
    error = await refused(client.responses.create(**body))
    assert (error.status_code, error.code, error.param) == (400, "unsupported_parameter", param)


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

"""The echo engine: a double must be held to what it doubles."""

from __future__ import annotations

import math
import struct
from base64 import b64decode
from typing import Any

import orjson
import pytest

from schemas.frames import End
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job
from workers.engines.base import EngineFault
from workers.engines.echo.engine import CONTEXT, EchoEngine

TOOLS = [
    {"type": "function", "function": {"name": "f"}},
    {"type": "function", "function": {"name": "g"}},
]


def engine(query: str = "") -> EchoEngine:
    return EchoEngine(config("echo", f"echo://?{query}"))


async def document(path: str, body: Any, query: str = "") -> Any:
    sink = await ask(engine(query), job("echo", path), body)
    assert (sink.status, sink.content_type) == (200, "application/json"), sink.body
    return sink.document


async def events(path: str, body: Any) -> list[Any]:
    sink = await ask(engine(), job("echo", path, stream=True), {**body, "stream": True})
    assert (sink.status, sink.content_type) == (200, "text/event-stream"), sink.body
    return sink.events


async def test_it_says_what_it_can() -> None:
    offer = await engine("model=a,b&slots=2").discover()
    assert (offer.slots, [model.id for model in offer.models]) == (2, ["a", "b"])
    assert "n" in offer.models[0].features
    assert "n" not in (await engine("n=0").discover()).models[0].features


async def test_words_come_back_streamed_and_not() -> None:
    whole = await document(CHAT, chat("one two"))
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "one two"}
    assert whole["choices"][0]["finish_reason"] == "stop"
    chunks = await events(CHAT, chat("one two", stream_options={"include_usage": True}))
    said = [c["delta"].get("content") for e in chunks for c in e["choices"]]
    assert said == ["", "one", " two", None]
    assert chunks[-1]["usage"] == whole["usage"]


async def test_limits_and_stops() -> None:
    cut = await document(CHAT, chat("a b c", max_tokens=2))
    more = await document(CHAT, chat("a b", max_completion_tokens=5))
    stopped = await document(CHAT, chat("a bc d", stop=["c"]))
    found = [
        (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"])
        for answer in (cut, more, stopped)
    ]
    assert found == [("a b", "length"), ("a b a b a", "length"), ("a b", "stop")]


async def test_several_choices() -> None:
    whole = await document(CHAT, chat("a b", n=2))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["usage"]["completion_tokens"] == 4
    assert len((await document(CHAT, chat("a", n=2), "n=0"))["choices"]) == 1


async def test_log_probabilities() -> None:
    whole = await document(CHAT, chat("a b", logprobs=True))
    tokens = whole["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in tokens] == ["a", " b"]
    text = await document("/v1/completions", {"prompt": "a b", "logprobs": 1})
    assert text["choices"][0]["logprobs"]["tokens"] == ["a", " b"]
    chunks = await events(CHAT, chat("a b", logprobs=True))
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["token"] == "a"


async def test_thoughts() -> None:
    body = chat("a", echo={"thinks": "hm hm"})
    whole = await document(CHAT, body)
    assert whole["choices"][0]["message"]["reasoning_content"] == "hm hm"
    deltas = [c["delta"] for e in await events(CHAT, body) for c in e["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm hm"


@pytest.mark.parametrize(
    ("choice", "name"),
    [("required", "f"), ({"type": "function", "function": {"name": "g"}}, "g")],
)
async def test_calls_that_are_forced(choice: Any, name: str) -> None:
    body = chat("a b", tools=TOOLS, tool_choice=choice)
    (made,) = (await document(CHAT, body))["choices"]
    (call,) = made["message"]["tool_calls"]
    assert made["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == name
    assert orjson.loads(call["function"]["arguments"]) == {"text": "a b"}
    deltas = [
        call
        for e in await events(CHAT, body)
        for c in e["choices"]
        for call in c["delta"].get("tool_calls", ())
    ]
    assert deltas[0]["function"]["name"] == name
    assert "".join(delta["function"]["arguments"] for delta in deltas) == '{"text":"a b"}'


async def test_calls_of_a_script_at_every_endpoint() -> None:
    calls = [{"name": "f", "arguments": {"x": 1}}, {"name": "g"}]
    body = chat("a", max_tokens=9, echo={"calls": calls})
    message = await document("/v1/messages", body)
    uses = [block for block in message["content"] if block["type"] == "tool_use"]
    assert [(use["name"], use["input"]) for use in uses] == [("f", {"x": 1}), ("g", {})]
    assert message["stop_reason"] == "tool_use"
    response = await document("/v1/responses", {"input": "a", "echo": {"calls": calls}})
    assert [item["type"] for item in response["output"]] == ["message", *["function_call"] * 2]
    names = [event["type"] for event in await events("/v1/messages", body)]
    assert names.count("content_block_start") == names.count("content_block_stop") == 3
    done = await events("/v1/responses", {"input": "a", "echo": {"calls": calls}})
    assert [event["sequence_number"] for event in done] == list(range(len(done)))
    assert done[-1]["response"]["output"] == response["output"]


async def test_responses_and_messages() -> None:
    response = await document("/v1/responses", {"input": "a b", "max_output_tokens": 1})
    assert response["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "a"
    last = (await events("/v1/responses", {"input": "a b"}))[-1]
    assert last["type"] == "response.completed"
    message = await document("/v1/messages", chat("a b", max_tokens=1))
    assert (message["content"][0]["text"], message["stop_reason"]) == ("a", "max_tokens")
    names = [event["type"] for event in await events("/v1/messages", chat("a", max_tokens=5))]
    assert (names[0], names[-1]) == ("message_start", "message_stop")


async def test_embeddings() -> None:
    found = await document("/v1/embeddings", {"input": ["a b", "a b", "c"], "dimensions": 5})
    first, same, other = (item["embedding"] for item in found["data"])
    assert first == same != other
    assert len(first) == 5
    assert math.isclose(sum(value * value for value in first), 1)
    packed = await document(
        "/v1/embeddings", {"input": "c", "dimensions": 5, "encoding_format": "base64"}
    )
    assert struct.unpack("<5f", b64decode(packed["data"][0]["embedding"])) == pytest.approx(other)
    assert found["usage"]["total_tokens"] == 5
    tokens = await document("/v1/embeddings", {"input": [1, 2, 3]})
    assert tokens["usage"]["total_tokens"] == 3


async def test_ranks_and_counts() -> None:
    body = {"query": "red cat", "documents": ["a dog", {"text": "a red cat"}, "red"], "top_n": 2}
    found = await document("/v1/rerank", body)
    assert [result["index"] for result in found["results"]] == [1, 2]
    assert await document("/v1/messages/count_tokens", chat("a b c")) == {"input_tokens": 3}
    counted = {"object": "response.input_tokens", "input_tokens": 3}
    assert await document("/v1/responses/input_tokens", {"input": "a b c"}) == counted
    assert await document("/v1/chat/completions/input_tokens", chat("a b c")) == counted


async def test_moderations() -> None:
    found = await document("/v1/moderations", {"input": ["raw violence", "peace"]})
    assert [each["flagged"] for each in found["results"]] == [True, False]
    assert [name for name, is_so in found["results"][0]["categories"].items() if is_so] == [
        "violence"
    ]
    parts = [{"type": "text", "text": "no"}, {"type": "text", "text": "hate"}]
    (result,) = (await document("/v1/moderations", {"input": parts}))["results"]
    assert result["category_scores"]["hate"] == 1


async def test_answers_by_turns() -> None:
    double = engine()
    body = chat("x", echo={"says": ["first", "then"], "as": "k"})
    said = [(await ask(double, job("echo"), body)).document for _ in range(3)]
    texts = [answer["choices"][0]["message"]["content"] for answer in said]
    assert texts == ["first", "then", "then"]


async def test_the_asked_name_and_the_count() -> None:
    sink = RecordingSink()
    what = job("echo", asked="gpt")
    end = await engine().run(what, orjson.dumps(chat("a b")), sink)
    assert sink.document["model"] == "gpt"
    assert end == End(2, 2, 0, end.engine_ms)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (chat("x " * (CONTEXT + 1)), "context_length_exceeded"),
        (chat("x", echo={"fault": "400"}), "as_asked"),
        (chat("x", echo=5), "invalid_request"),
        (chat("x", echo={"first_ms": "soon"}), "invalid_request"),
    ],
)
async def test_refusals(body: Any, code: str) -> None:
    assert (await ask(engine(), job("echo"), body)).error["code"] == code


@pytest.mark.parametrize("fault", ["500", "503", "cut", "error"])
async def test_faults(fault: str) -> None:
    with pytest.raises(EngineFault) as caught:
        await ask(engine(), job("echo"), chat("x", echo={"fault": fault}))
    assert caught.value.away == (fault == "503")
    assert caught.value.retryable == (fault != "error")


async def test_other_endpoints_are_not_there() -> None:
    sink = await ask(engine(), job("echo", "/v1/audio/transcriptions"), {})
    assert sink.error["code"] == "unsupported_endpoint"

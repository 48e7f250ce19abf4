"""What the worker aggregates from the engine's stream equals what the engine says unstreamed.

Masked are the ids, `created` and the times in `timings`; nothing else differs but what the tests
below `test_equals` hold one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.api.base import Usage
from tests.acceptance.conftest import RealLlama, running_llama
from tests.doubles.drive import RecordingSink
from workers.engines.llamacpp.aggregate import Aggregate, choices_per_prompt, prepare

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
REPEATABLE = {"temperature": 0, "seed": 1, "cache_prompt": False}
TEMPLATE = Path(__file__).parent / "data" / "tools.jinja"

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
PREFILLED = [*QUESTION, {"role": "assistant", "content": " The capital of "}]
IN_PARTS = [{"type": "text", "text": "The capital"}, {"type": "text", "text": "of "}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer"}},
    "required": ["city", "n"],
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
LOGPROBS = {"logprobs": True, "top_logprobs": 2}

CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stop": {"stop": ["France"]},
    "seed": {"temperature": 1.2, "seed": 7, "max_tokens": 12},
    "one token": {"max_tokens": 1},
    "nothing said": {"stop": ["The"]},
    "json_schema": {"response_format": AS_SCHEMA},
    "json_object": {"response_format": {"type": "json_object"}},
    "logprobs": {**LOGPROBS, "max_tokens": 5},
    "probabilities": {**LOGPROBS, "max_tokens": 5, "post_sampling_probs": True, "temperature": 1},
    "prefill": {"messages": PREFILLED},
    "prefill, echo refused": {"messages": PREFILLED, "echo": False},
    "prefill in parts": {"messages": [*QUESTION, {"role": "assistant", "content": IN_PARTS}]},
    "prefill, json": {
        "messages": [*QUESTION, {"role": "assistant", "content": '{"city":'}],
        "response_format": AS_SCHEMA,
    },
    "timings_per_token": {"timings_per_token": True},
    "return_progress": {"return_progress": True},
    "unicode": {"grammar": 'root ::= "🎉🚀 naïve \\"中文\\" \\\\ 👩‍👧\\n"', "max_tokens": 60},
    "half a character": {"grammar": 'root ::= "🎉🚀"', "max_tokens": 3},
    "client's stream options": {"stream_options": {"include_usage": False}, "stream": False},
    "tools the model does not know": {"tools": [{"type": "function", "function": {"name": "f"}}]},
}
TEXTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "logprobs": {"logprobs": 2},
    "echo": {"echo": True},
    "stop": {"stop": [" a", " city"]},
    "suffix": {"suffix": "x", "timings_per_token": True},
    "unicode": {"prompt": "🎉🚀🎉🚀🎉🚀", "max_tokens": 30},
    "tokens": {"prompt": [1, 2, 3]},
}


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def asked(city: str, tools: list[str]) -> list[dict[str, Any]]:
    """One exchange in which each of `tools` is called: a small model repeats what it has seen."""
    calls = [
        {"type": "function", "id": f"{name}-{city}", "function": {"name": name, "arguments": said}}
        for name in tools
        for said in [orjson.dumps({"city": city}).decode()]
    ]
    question = {"role": "user", "content": f"{' and '.join(tools)} of {city}?"}
    return [question, {"role": "assistant", "content": "", "tool_calls": calls}]


def tool_chat(tools: list[str], **fields: Any) -> dict[str, Any]:
    cities = ("Rome", "Oslo")
    before = [message for city in cities for message in asked(city, tools)]
    return {
        "messages": [*before, asked("Paris", tools)[0]],
        "tools": [tool(name) for name in tools],
        "parallel_tool_calls": len(tools) > 1,
        "max_tokens": 120,
        **fields,
    }


@pytest.fixture(scope="module")
def llama_with_tools() -> Iterator[RealLlama]:
    with running_llama("--chat-template", str(TEMPLATE)) as server:
        yield server


def both(llama: RealLlama, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], Aggregate]:
    """(the engine's document, the aggregate of its stream)"""
    body = {**REPEATABLE, **body}
    status, document = llama.post(path, body)
    assert status == 200, document
    status, stream = llama.post(path, prepare(body))
    assert status == 200, stream
    aggregate = Aggregate(RecordingSink(), choices_per_prompt(body))
    aggregate.data(stream)
    return timeless(orjson.loads(document)), aggregate


def timeless(document: dict[str, Any] | None) -> dict[str, Any]:
    assert document is not None
    out: dict[str, Any] = {**document}
    assert out.pop("id")
    assert out.pop("created")
    out["timings"] = {k: v for k, v in out["timings"].items() if "_ms" not in k and "per_" not in k}
    for choice in out["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id")
    return out


@pytest.mark.parametrize("case", CHATS)
def test_equals_in_chat(llama: RealLlama, case: str) -> None:
    body = {"messages": QUESTION, "max_tokens": 24, **CHATS[case]}
    document, aggregate = both(llama, CHAT, body)

    assert timeless(aggregate.document) == document


@pytest.mark.parametrize("case", TEXTS)
def test_equals_in_text_completion(llama: RealLlama, case: str) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 12, **TEXTS[case]}
    document, aggregate = both(llama, TEXT, body)

    assert timeless(aggregate.document) == document


def test_equals_with_a_tool_call(llama_with_tools: RealLlama) -> None:
    body = tool_chat(["weather"], tool_choice="auto")
    document, aggregate = both(llama_with_tools, CHAT, body)

    assert timeless(aggregate.document) == document
    assert document["choices"][0]["finish_reason"] == "tool_calls"


def test_equals_with_two_tool_calls(llama_with_tools: RealLlama) -> None:
    document, aggregate = both(llama_with_tools, CHAT, tool_chat(["weather", "time"]))

    assert timeless(aggregate.document) == document
    calls = document["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "time"]


def test_equals_when_tools_are_offered_in_vain(llama_with_tools: RealLlama) -> None:
    body = {"messages": QUESTION, "tools": [tool("weather")], "max_tokens": 12}
    document, aggregate = both(llama_with_tools, CHAT, body)

    assert timeless(aggregate.document) == document


def test_usage_of_several_choices_is_the_sum(llama: RealLlama) -> None:
    """The engine's document counts choice 0 alone; the prompt was computed once."""
    body = {"messages": QUESTION, "n": 2, "max_tokens": 7, "ignore_eos": True}
    document, aggregate = both(llama, CHAT, body)
    answer = timeless(aggregate.document)
    told, usage = document.pop("usage"), answer.pop("usage")

    assert answer == document
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert told["completion_tokens"] == 7
    assert usage == {**told, "completion_tokens": 14, "total_tokens": told["prompt_tokens"] + 14}
    assert aggregate.usage() == Usage(told["prompt_tokens"], 14, 0)


@pytest.mark.parametrize("n", [1, 2])
def test_usage_of_several_prompts_is_the_sum(llama: RealLlama, n: int) -> None:
    prompts = ["Once upon", "The sky is blue and"]
    body = {"prompt": prompts, "n": n, "max_tokens": 5, "ignore_eos": True, "logprobs": 1}
    document, aggregate = both(llama, TEXT, body)
    answer = timeless(aggregate.document)
    lengths = [orjson.loads(llama.post("/tokenize", {"content": p})[1]) for p in prompts]
    prompt = sum(len(each["tokens"]) for each in lengths)
    told, usage = document.pop("usage"), answer.pop("usage")

    assert answer == document
    assert len(answer["choices"]) == 2 * n
    assert told["completion_tokens"] == 5
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, 10 * n)


def test_the_end_of_the_text_has_no_logprob_of_its_own(llama: RealLlama) -> None:
    """The stream has no chunk for the token that ends the text; OpenAI's API does not list it."""
    document, aggregate = both(llama, CHAT, {"messages": QUESTION, "max_tokens": 24, **LOGPROBS})
    answer = timeless(aggregate.document)
    whole = document["choices"][0]["logprobs"]["content"]

    assert whole.pop()["token"] == ""
    assert answer == document


def test_held_back_tokens_have_no_logprob_of_their_own(llama: RealLlama) -> None:
    """What might become a stop string is streamed late, in one chunk with one token's logprob."""
    body = {"messages": QUESTION, "max_tokens": 6, "stop": ["capital city"], **LOGPROBS}
    document, aggregate = both(llama, CHAT, body)
    answer = timeless(aggregate.document)
    whole = document["choices"][0].pop("logprobs")["content"]
    streamed = answer["choices"][0].pop("logprobs")["content"]

    assert answer == document
    assert len(whole) == 6
    assert 0 < len(streamed) < 6


def test_a_refused_request_is_refused_alike(llama: RealLlama) -> None:
    body = {"messages": QUESTION, "max_tokens": -5}

    assert llama.post(CHAT, prepare(body)) == llama.post(CHAT, body)

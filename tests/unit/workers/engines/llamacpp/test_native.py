"""llama-server's own endpoint for prompts, put as OpenAI's; with a real one: test_vision."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import sse
from workers.engines.http.connection import Response
from workers.engines.llamacpp.native import AsCompletion, between, own_form, prepare
from workers.engines.openai.refusal import Refusal

TOKEN = {"token": "a", "logprob": -1.0, "top_logprobs": []}


def asked(prompt: Any, **more: Any) -> Any:
    found = prepare(orjson.dumps({"prompt": prompt, "stream": True, **more}), "<__media_x__>")
    return found and orjson.loads(found)


def test_one_text_goes_to_openais_endpoint() -> None:
    assert asked("a") is None


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [1, "a"], {"prompt_string": "<__media__>"}])
def test_other_prompts_go_as_they_are(prompt: Any) -> None:
    assert asked(prompt, seed=1) == {"prompt": prompt, "stream": True, "seed": 1}


def test_a_picture_has_the_marker_of_its_server() -> None:
    seen = {"prompt_string": "a <__media__> b", "multimodal_data": ["AAAA"]}
    named = {**seen, "prompt_string": "a <__media_x__> b"}
    assert asked(["<__media__>", seen])["prompt"] == ["<__media__>", named]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"logprobs": 2}, {"n_probs": 2}),
        ({"logprobs": None}, {}),
        ({"logprobs": False}, {}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x"]}, {"stop": ["x"]}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
    ],
)
def test_fields_have_the_endpoints_own_names(said: dict[str, Any], meant: dict[str, Any]) -> None:
    assert asked([1], **said) == {"prompt": [1], "stream": True, **meant}
    body = orjson.dumps({"prompt": "a", "suffix": "b", **said})
    assert orjson.loads(between(body) or b"") == {"input_prefix": "a", "input_suffix": "b", **meant}


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], {"prompt_string": "a"}])
def test_a_suffix_is_for_one_text(prompt: Any) -> None:
    with pytest.raises(Refusal) as caught:
        own_form(orjson.dumps({"prompt": prompt, "suffix": "b"}), ("infill",), {})
    assert (caught.value.param, caught.value.status) == ("prompt", 400)


def test_it_goes_where_it_is_heeded() -> None:
    suffixed = orjson.dumps({"prompt": "a", "suffix": "b"})
    several = orjson.dumps({"prompt": ["a", "b"]})
    assert own_form(suffixed, ("completions",), {}) is None
    assert own_form(several, ("completions", "infill"), {}) is None
    for body, path in ((suffixed, "/infill"), (several, "/completion")):
        found = own_form(body, ("completions", "infill"), {"modalities": {"vision": True}})
        assert found is not None
        assert found[0] == path


@pytest.mark.parametrize("behind", [{}, {"suffix": ""}, {"suffix": None}, {"stop": "suffix"}])
def test_without_a_text_behind_it_goes_to_openais_endpoint(behind: dict[str, Any]) -> None:
    assert between(orjson.dumps({"prompt": "a", **behind})) is None


async def answered(*events: dict[str, Any] | None) -> tuple[list[Any], bool]:
    """The events as they are read, and whether their end was said."""
    inner = Response()
    inner.status, inner.headers = 200, {"content-type": "text/event-stream"}
    raw = b"".join(sse.write(orjson.dumps(event)) for event in events)
    inner.add(raw)
    inner.end()
    made, found = AsCompletion(inner, "cmpl-1"), b""
    while piece := await made.readany():
        found += piece
    assert (made.status, made.header("content-type")) == (200, "text/event-stream")
    return [*sse.objects(found)], found.endswith(sse.DONE)


LAST = {
    "index": 1,
    "content": "",
    "stop": True,
    "stop_type": "limit",
    "tokens_predicted": 2,
    "tokens_evaluated": 5,
    "timings": {"cache_n": 4},
}


async def test_its_events_are_those_of_a_completion() -> None:
    first = {"index": 1, "content": "a", "stop": False, "completion_probabilities": [TOKEN]}
    (one, last), whole = await answered(None, first, LAST)
    assert whole
    assert one["choices"] == [
        {"text": "a", "index": 1, "logprobs": {"content": [TOKEN]}, "finish_reason": None}
    ]
    assert (one["id"], one["object"]) == ("cmpl-1", "text_completion")
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"] == {
        "completion_tokens": 2,
        "prompt_tokens": 5,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


@pytest.mark.parametrize("why", ["eos", "word"])
async def test_one_that_ends_by_itself_stops(why: str) -> None:
    (event,), _ = await answered({**LAST, "stop_type": why})
    assert event["choices"][0]["finish_reason"] == "stop"


async def test_the_end_is_said_only_once_each_choice_has_ended() -> None:
    other = {"index": 0, "content": "a", "stop": False}
    assert not (await answered(other, LAST))[1]
    assert not (await answered(other))[1]
    assert (await answered(other, LAST, {**LAST, "index": 0}))[1]


async def test_an_error_passes() -> None:
    (event,), whole = await answered({"error": {"message": "no"}})
    assert (event, whole) == ({"error": {"message": "no"}}, False)

"""llama-server's own text completion: its events, its document, its fields."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import sse
from schemas.api.base import Usage
from schemas.api.own_completion import API, REQUEST, Collector, chosen
from schemas.errors import InvalidRequest


def part(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "content": text, "tokens": [len(text)], "stop": False, **more}


def end(index: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"tokens_predicted": 2, "tokens_evaluated": 3, "timings": {"cache_n": 1}}
    return {"index": index, "content": "", "tokens": [], "stop": True, **counts, **more}


def collected(*events: dict[str, Any]) -> Collector:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector


def test_a_document_is_made_of_events() -> None:
    probable = [{"id": 1}], [{"id": 2}]
    events = [
        part(text, completion_probabilities=p) for text, p in zip("ab", probable, strict=True)
    ]
    found = collected(*events, end(stop_type="eos"))
    assert found.whole
    assert found.document["content"] == "ab"
    assert found.document["tokens"] == [1, 1]
    assert found.document["completion_probabilities"] == [{"id": 1}, {"id": 2}]
    assert found.document["stop_type"] == "eos"


def test_the_answers_to_several_prompts_are_a_list_in_their_order() -> None:
    found = collected(part("b", 1), part("a"), end(), part("c", 1), end(1))
    assert [each["content"] for each in found.document] == ["a", "bc"]
    assert not collected(part("a"), part("b", 1), end()).whole
    assert collected(part("a")).document is None


def test_a_stream_is_whole_with_its_last_event() -> None:
    stream = sse.Splitter()
    stream.feed(sse.dump(part("a")))
    assert not API.ended(stream)
    stream.feed(sse.dump(end()))
    assert API.ended(stream)
    assert API.usage(end()) == Usage(3, 2, 1)
    assert API.usage(part("a")) is None


def test_fields_are_chosen_by_their_paths() -> None:
    document = {"content": "a", "timings": {"n": 1}, "tokens": [4]}
    wanted = ["content", "timings/n", "tokens/0", "x", "content/x", "tokens/9"]
    assert chosen(document, wanted) == {"content": "a", "timings/n": 1, "tokens/0": 4}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"prompt_string": 5}}, "prompt.prompt_string"),
        ({"prompt": "a", "n_predict": "x"}, "n_predict"),
        ({"prompt": "a", "logit_bias": {"1": 1000}}, "logit_bias"),
    ],
)
def test_a_refusal_says_where(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        REQUEST.check(request_)
    assert refused.value.param == param


def test_an_empty_stop_is_none() -> None:
    request: dict[str, Any] = {"prompt": [1, "a"], "stop": ["", "b"]}
    assert REQUEST.check(request)
    assert request["stop"] == ["b"]

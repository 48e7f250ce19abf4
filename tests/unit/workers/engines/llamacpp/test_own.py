"""llama-server's own endpoints: what it is sent, and what comes of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from schemas.api import endpoints
from schemas.api.base import Usage
from tests.doubles.drive import job
from workers.engines.llamacpp import own_pages
from workers.engines.llamacpp.own_completion import OwnCompletion


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "content": text, "tokens": [7], "stop": False, **more}


END: dict[str, Any] = {
    "index": 0,
    "content": "",
    "tokens": [],
    "stop": True,
    "model": "/a/file",
    "tokens_predicted": 2,
    "tokens_evaluated": 3,
    "timings": {"cache_n": 1, "prompt_n": 2},
}


def own(**more: Any) -> OwnCompletion:
    found = OwnCompletion({"prompt": "a", **more}, "<__media_x__>", "asked")
    for event in (part("b"), part("c"), {**END, "generation_settings": {"stream": True}}):
        found.change(event)
    return found


def test_it_is_asked_to_stream_and_the_document_made_of_the_events() -> None:
    found = own(stop="x", n_predict=2)
    assert found.sent == {"prompt": "a", "n_predict": 2, "stop": ["x"], "stream": True}
    document = found.document
    assert (document["content"], document["tokens"], document["model"]) == ("bc", [], "asked")
    assert document["generation_settings"] == {"stream": False}
    assert found.usage == Usage(3, 2, 1)
    assert own(return_tokens=True).document["tokens"] == [7, 7]


def test_chosen_fields_are_chosen_here_as_the_rest_is_needed() -> None:
    found = own(response_fields=["content", "timings/prompt_n"])
    assert "response_fields" not in found.sent
    assert found.document == {"content": "bc", "timings/prompt_n": 2}
    assert found.change({**END}) == {"content": "", "timings/prompt_n": 2}


def test_a_text_between_two_others_may_begin_with_nothing() -> None:
    between = {"input_prefix": "a", "input_suffix": "b", "stop": "x"}
    sent = OwnCompletion(between, "<__media_x__>", "m").sent
    assert sent == {**between, "stop": ["x"], "stream": True}
    assert OwnCompletion({**between, "prompt": "c"}, "<__media_x__>", "m").sent["prompt"] == "c"


def test_a_picture_has_the_marker_of_its_server() -> None:
    shown = {"prompt_string": "<__media__>", "multimodal_data": ["AAAA"]}
    sent = OwnCompletion({"prompt": [shown]}, "<__media_x__>", "m").sent
    assert sent["prompt"] == [{**shown, "prompt_string": "<__media_x__>"}]


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        ({"content": "a"}, {"content": "a", "add_special": False, "parse_special": True}),
        (
            {"content": ["a", 5], "add_special": True, "parse_special": False},
            {"content": ["a", 5], "add_special": True, "parse_special": False},
        ),
        ({"prompt": "a"}, {"content": "a", "add_special": True, "parse_special": True}),
        (
            {"prompt": "a", "add_special_tokens": False},
            {"content": "a", "add_special": False, "parse_special": True},
        ),
        (
            {"messages": [{}], "tools": []},
            {"content": "templated", "add_special": False, "parse_special": True},
        ),
    ],
)
async def test_tokens_are_asked_for_in_its_own_form(
    request_: dict[str, Any], sent: dict[str, Any]
) -> None:
    heard: list[tuple[str, Mapping[str, Any]]] = []

    async def page(path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        heard.append((path, asked))
        return {"prompt": "templated", "tokens": [4, 5]}

    what = job("m", endpoints.TOKENIZE.path)
    found = await own_pages.answer(page, what, request_, 9)
    assert heard[-1] == (endpoints.TOKENIZE.path, {**sent, "with_pieces": False})
    assert found == {"tokens": [4, 5], "count": 2, "max_model_len": 9}
    chats = [asked for path, asked in heard if path == endpoints.TEMPLATE.path]
    assert chats == ([{"messages": [{}], "tools": []}] if "messages" in request_ else [])


async def test_pieces_come_in_the_form_that_was_asked_for() -> None:
    async def page(path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert asked["with_pieces"]
        return {"tokens": [{"id": 4, "piece": "a"}]}

    what = job("m", endpoints.TOKENIZE.path)
    found = await own_pages.answer(page, what, {"prompt": "a", "return_token_strs": True}, 9)
    assert found == {"tokens": [4], "count": 1, "max_model_len": 9, "token_strs": ["a"]}


async def test_tokens_are_put_together() -> None:
    async def page(path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert (path, asked) == (endpoints.DETOKENIZE.path, {"tokens": [4]})
        return {"content": "a"}

    what = job("m", endpoints.DETOKENIZE.path)
    found = await own_pages.answer(page, what, {"tokens": [4], "model": "m"}, 9)
    assert found == {"content": "a", "prompt": "a"}

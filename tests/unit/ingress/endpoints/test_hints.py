"""Hints on an ingress in this process, whose catalog has the cards of real kinds of engines: no
hint refuses a request, and one that does nothing is named in the answer's head."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from schemas.api.endpoints import BY_WORD
from schemas.api.hints import HINTS
from schemas.nodes import ServedModel
from tests.fields_page import CARDS
from tests.unit.ingress.loopback import LoopbackIngress, Reply, loopback_ingress

WARNING = "x-headrace-warning"
VALUES: Mapping[str, tuple[Any, ...]] = {
    "reasoning_effort": ("none", "minimal", "low", "high", "xhigh"),
    "think": (True, False, "high"),
    "reasoning": ({"effort": "none"}, {"effort": "high", "summary": "detailed"}),
    "thinking": ({"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}),
    "output_config.effort": ("low", "max"),
    "output_config.task_budget": ({"type": "tokens", "total": 20_000},),
    "verbosity": ("low", "high"),
    "text.verbosity": ("low", "high"),
    "prediction": ({"type": "content", "content": "x"},),
    "truncation": ("auto",),
    "max_tool_calls": (3,),
    "include": (["message.output_text.logprobs"],),
    "seed": (7,),
    "context_management": ([{"type": "compaction"}], {"edits": [{"type": "x"}]}),
    "speed": ("fast",),
    "service_tier": ("scale", "priority"),  # "flex" is the batch lane
    "store": (True,),
    "prompt_cache_key": ("k",),
    "prompt_cache_retention": ("24h",),
    "prompt_cache_options": ({"mode": "explicit"},),
    "cache_control": ({"type": "ephemeral"},),
    "stream_options.include_obfuscation": (True,),
    "keep_alive": ("5m", 0),
}
FUNCTIONS: Mapping[str, Any] = {
    "chat": {"type": "function", "function": {"name": "f"}},
    "responses": {"type": "function", "name": "f"},
    "messages": {"name": "f", "input_schema": {"type": "object"}},
}
SERVERS: Mapping[str, Any] = {
    "chat": {"type": "custom", "custom": {"name": "x"}},
    "responses": {"type": "web_search"},
    "messages": {"type": "bash_20250124", "name": "bash"},
}
FORCING: Mapping[str, Any] = {
    "chat": {"type": "custom", "custom": {"name": "x"}},
    "responses": {"type": "web_search"},
    "messages": {"type": "tool", "name": "bash"},
}


@pytest.fixture
async def ingress() -> AsyncIterator[LoopbackIngress]:
    async with loopback_ingress() as made:
        yield made


def least(word: str) -> dict[str, Any]:
    """The least that an endpoint takes."""
    messages = [{"role": "user", "content": "one two"}]
    texts: dict[str, dict[str, Any]] = {
        "completions": {"prompt": "one two"},
        "chat": {"messages": messages},
        "messages": {"messages": messages, "max_tokens": 5},
        "count_tokens": {"messages": messages},
    }
    return {"model": "echo", **texts.get(word, {"input": "one two"})}


def with_field(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    top, _, inner = path.partition(".")
    return {**body, top: {inner: value} if inner else value}


async def ask(ingress: LoopbackIngress, word: str, body: dict[str, Any]) -> Reply:
    return await ingress.post(BY_WORD[word].path, body)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
@pytest.mark.parametrize("path", HINTS)
async def test_a_hint_refuses_nothing_and_is_named_where_it_does_nothing(
    ingress: LoopbackIngress, card: ServedModel, path: str
) -> None:
    ingress.serve(replace(card, id="echo"))
    for word in HINTS[path]:
        for value in VALUES[path] if word in card.features else ():
            body = with_field(least(word), path, value)
            answer = await ask(ingress, word, body)
            assert answer.status == 200, answer.body
            wanted = [each for each in card.ignores if word in each.at and each.wanted(body)]
            warned = answer.headers.get(WARNING, "")
            assert all(f"{each.field} has no effect" in warned for each in wanted)
            assert warned.count("has no effect") == len(wanted)


async def test_all_hints_at_once_are_one_header_of_a_bounded_length(
    ingress: LoopbackIngress,
) -> None:
    ingress.serve(replace(CARDS[0], id="echo"))
    for word in ("chat", "responses", "messages"):
        body = {**least(word), "stream": True}
        for path in (path for path, words in HINTS.items() if word in words):
            body = with_field(body, path, VALUES[path][-1])
        answer = await ask(ingress, word, body)
        assert answer.events
        assert "service_tier has no effect" in answer.headers[WARNING]
        assert len(answer.headers[WARNING]) < 1200
        assert answer.headers[WARNING].isprintable()


async def test_of_the_clients_own_account_nothing_is_said(ingress: LoopbackIngress) -> None:
    ingress.serve(replace(CARDS[0], id="echo"))
    account = {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s"}
    answer = await ask(ingress, "chat", {**least("chat"), **account})
    assert answer.status == 200
    assert WARNING not in answer.headers


async def test_a_cache_that_is_asked_for_in_a_message_is_told_of(ingress: LoopbackIngress) -> None:
    ingress.serve(replace(CARDS[0], id="echo"))
    part = {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}
    body = {**least("messages"), "messages": [{"role": "user", "content": [part]}]}
    told = await ask(ingress, "messages", body)
    quoted = {**least("messages"), "messages": [{"role": "user", "content": '"cache_control"'}]}
    assert told.headers[WARNING].startswith("cache_control has no effect")
    assert WARNING not in (await ask(ingress, "messages", quoted)).headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("word", FUNCTIONS)
async def test_a_servers_tools_beside_functions_are_dropped_and_named(
    ingress: LoopbackIngress, word: str, stream: bool
) -> None:
    tools = [SERVERS[word], FUNCTIONS[word], SERVERS[word]]
    answer = await ask(ingress, word, {**least(word), "tools": tools, "stream": stream})
    assert answer.status == 200
    assert orjson.loads(ingress.line.jobs[-1].body)["tools"] == [FUNCTIONS[word]]
    assert "tools[0].type has no effect: only functions" in answer.headers[WARNING]
    assert "tools[2].type" in answer.headers[WARNING]
    assert repr(SERVERS[word]["type"]) in answer.headers[WARNING]


@pytest.mark.parametrize("word", FUNCTIONS)
@pytest.mark.parametrize("forced", [False, True])
async def test_a_servers_tool_that_is_the_only_one_or_forced_is_refused(
    ingress: LoopbackIngress, word: str, forced: bool
) -> None:
    alone = {**least(word), "tools": [SERVERS[word]]}
    both = {**least(word), "tools": [FUNCTIONS[word], SERVERS[word]], "tool_choice": FORCING[word]}
    body, place = (both, 1) if forced else (alone, 0)
    answer = await ask(ingress, word, body)
    assert answer.status == 400
    assert answer.json["error"]["param"] == f"tools[{place}].type"
    why = "'tool_choice' asks for" if forced else "there is no other tool"
    assert why in answer.json["error"]["message"]
    lenient = await ingress.post(BY_WORD[word].path, body, x_headrace_lenient="true")
    assert lenient.status == 200
    assert "tool_choice" not in orjson.loads(ingress.line.jobs[-1].body)


@pytest.mark.parametrize(
    ("word", "more"),
    [
        ("chat", {"suffix": "x"}),
        ("chat", {"modalities": ["text", "audio"]}),
        ("chat", {"audio": {"voice": "alloy", "format": "wav"}}),
        ("completions", {"suffix": "x"}),
        ("responses", {"previous_response_id": "resp_1"}),
        ("responses", {"background": True}),
        ("responses", {"conversation": "conv_1"}),
        ("messages", {"grammar": "x"}),
    ],
)
async def test_what_changes_the_meaning_is_refused_by_name(
    ingress: LoopbackIngress, word: str, more: dict[str, Any]
) -> None:
    ingress.serve(replace(CARDS[0], id="echo"))
    answer = await ask(ingress, word, {**least(word), **more})
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", next(iter(more)))

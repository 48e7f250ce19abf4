"""Kept answers, and one run for all who ask the same, at a whole ingress without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from ingress.http.held import Held
from schemas.api.endpoints import ENDPOINTS
from schemas.bus import BusError
from schemas.nodes import ServedModel
from schemas.settings import Route
from schemas.usage import Served, unpack
from tests.unit.fakes import FakeBus
from tests.unit.ingress.loopback import LoopbackIngress, Reply, loopback_ingress

ON = {"x_headrace_cache": "on"}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
SLOW = {"first_ms": 20}


def chat(text: str = "one two three", **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "echo", "messages": [message], "temperature": 0, **fields}


def embeddings(given: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "input": given, **fields}


@pytest.fixture
async def ingress() -> AsyncIterator[LoopbackIngress]:
    routes = (
        Route(name="kept", model="echo", cache=True),
        Route(name="not", model="echo"),
        Route(name="never", model="echo", cache=False),
    )
    async with loopback_ingress("echo://?digest=a", routes=routes) as made:
        bus = made.context.bus
        assert isinstance(bus, FakeBus)
        bus.api_answer = lambda verb, body: {"config": body or {}}
        bus.answer = _nothing
        yield made


async def _nothing(subject: str, _: bytes) -> Any:
    raise BusError("no such stream")


def said(reply: Reply) -> tuple[int, str]:
    """(status, what came of it)."""
    return reply.status, reply.headers.get("x-headrace-cache", "")


BODIES = [
    (CHAT, chat()),
    (CHAT, chat(stream=True)),
    (CHAT, chat(stream=True, stream_options={"include_usage": True})),
    (CHAT, chat(n=2, stream=True)),
    ("/v1/completions", {"model": "echo", "prompt": "one two", "seed": 3}),
    ("/v1/completions", {"model": "echo", "prompt": "one two", "seed": 3, "stream": True}),
    ("/v1/responses", {"model": "echo", "input": "one two", "temperature": 0}),
    ("/v1/responses", {"model": "echo", "input": "one two", "temperature": 0, "stream": True}),
    ("/v1/messages", {**chat(), "max_tokens": 5}),
    ("/v1/messages", {**chat(stream=True), "max_tokens": 5}),
    ("/completion", {"prompt": "one two", "temperature": 0, "stream": True}),
    ("/api/chat", {**chat(options={"temperature": 0}), "stream": True}),
    ("/v1/rerank", {"model": "echo", "query": "one", "documents": ["two", "one"]}),
    ("/v1/rerank", {"model": "echo", "query": "one", "texts": ["two", "one"]}),
    ("/v1/moderations", {"model": "echo", "input": "one"}),
    (EMBEDDINGS, embeddings("one")),
    (EMBEDDINGS, embeddings(["one", "two"], encoding_format="base64")),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_hit_is_what_the_miss_was(
    ingress: LoopbackIngress, path: str, body: dict[str, Any]
) -> None:
    body = {name: value for name, value in body.items() if path != "/api/chat" or name != "n"}
    first = await ingress.post(path, body, **ON)
    jobs = len(ingress.line.jobs)
    second = await ingress.post(path, body, **ON)
    assert (said(first), said(second)) == ((200, "miss"), (200, "hit"))
    assert len(ingress.line.jobs) == jobs
    assert second.headers["content-type"] == first.headers["content-type"]
    if path != "/api/chat":  # it tells the time
        assert orjson_or_bytes(second.body) == orjson_or_bytes(first.body)
    assert second.headers["age"] == "0"
    assert second.headers["x-headrace-served-by"] == "cache"
    assert second.headers["x-headrace-cost"] == "0"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


def orjson_or_bytes(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body


async def test_nothing_is_kept_unless_it_is_asked_for(ingress: LoopbackIngress) -> None:
    for headers in ({}, {}, {"x_headrace_cache": "off"}):
        reply = await ingress.post(CHAT, chat(), **headers)
        assert said(reply) == (200, "")
    assert len(ingress.line.jobs) == 3


async def test_a_route_asks_for_all_its_requests(ingress: LoopbackIngress) -> None:
    for model, found in (("kept", ["miss", "hit"]), ("not", ["", ""])):
        replies = [await ingress.post(CHAT, chat(model=model)) for _ in range(2)]
        assert [said(reply)[1] for reply in replies] == found
    refused = await ingress.post(CHAT, chat(model="kept"), x_headrace_cache="off")
    assert said(refused) == (200, "")
    assert said(await ingress.post(CHAT, chat(model="never"), **ON)) == (200, "")


@pytest.mark.parametrize(
    "body", [chat(temperature=0.5), chat(temperature=1, seed=-1), {**chat(), "temperature": None}]
)
async def test_what_is_left_to_chance_is_passed_by(
    ingress: LoopbackIngress, body: dict[str, Any]
) -> None:
    for _ in range(2):
        assert said(await ingress.post(CHAT, body, **ON)) == (200, "bypass")
    assert len(ingress.line.jobs) == 2


async def test_what_differs_in_anything_is_asked_anew(ingress: LoopbackIngress) -> None:
    lenient = {"x_headrace_lenient": "true"}
    asked: list[tuple[dict[str, Any], dict[str, str]]] = [
        (chat(), {}),
        (chat("one two"), {}),
        (chat(max_tokens=2), {}),
        (chat(stream=True), {}),
        (chat(seed=1), {}),
        (chat(user="u"), {}),
        (chat(model="kept"), {}),
        (chat(nobody_knows=1), lenient),
    ]
    for body, headers in asked:
        assert said(await ingress.post(CHAT, body, **ON, **headers)) == (200, "miss"), body
    for body, headers in asked:
        assert said(await ingress.post(CHAT, body, **ON, **headers)) == (200, "hit"), body


async def test_a_warning_is_for_who_asked(ingress: LoopbackIngress) -> None:
    body = chat(service_tier="priority")
    replies = [await ingress.post(CHAT, body, **ON) for _ in range(2)]
    assert [said(reply)[1] for reply in replies] == ["miss", "hit"]
    assert replies[0].headers.get("x-headrace-warning") == replies[1].headers.get(
        "x-headrace-warning"
    )


def served(digest: str, engine: str = "e") -> ServedModel:
    words = tuple(each.word for each in ENDPOINTS)
    return ServedModel("echo", engine, "echo", 4, features=words, digest=digest)


async def test_other_weights_behind_the_name_have_answers_of_their_own(
    ingress: LoopbackIngress,
) -> None:
    found = []
    for digest in ("a", "a", "b", "b", "", ""):
        ingress.serve(served(digest))
        found.append(said(await ingress.post(CHAT, chat(), **ON))[1])
    assert found == ["miss", "hit", "miss", "hit", "bypass", "bypass"]


async def test_an_answer_does_while_somebody_serves_its_weights(ingress: LoopbackIngress) -> None:
    await ingress.post(CHAT, chat(), **ON)
    ingress.serve(served("b", "other"), served("a"))
    assert said(await ingress.post(CHAT, chat(), **ON))[1] == "hit"


async def test_who_answered_while_his_weights_changed_is_not_kept(ingress: LoopbackIngress) -> None:
    asking = asyncio.create_task(ingress.post(CHAT, chat(echo=SLOW), **ON))
    while not ingress.line.jobs:
        await asyncio.sleep(0)
    ingress.serve(served("b"))
    assert said(await asking)[1] == "miss"
    assert said(await ingress.post(CHAT, chat(echo=SLOW), **ON))[1] == "miss"


async def test_what_cache_control_says_is_heeded(ingress: LoopbackIngress) -> None:
    said_by = []
    for control in (
        "no-store",
        "only-if-cached",
        "no-cache",
        "no-cache",
        "max-age=60",
        "max-age=0",
    ):
        reply = await ingress.post(CHAT, chat(), **ON, cache_control=control)
        said_by.append(said(reply))
    assert said_by == [
        (200, "bypass"),
        (504, ""),
        (200, "miss"),
        (200, "miss"),
        (200, "hit"),
        (200, "miss"),
    ]
    kept = await ingress.post(CHAT, chat(), **ON, cache_control="only-if-cached")
    assert said(kept) == (200, "hit")


async def test_a_refusal_and_a_failure_are_not_kept(ingress: LoopbackIngress) -> None:
    for fault, status in (("400", 400), ("error", 502)):
        body = chat(echo={"fault": fault})
        replies = [await ingress.post(CHAT, body, **ON) for _ in range(2)]
        assert [reply.status for reply in replies] == [status] * 2
    assert len(ingress.line.jobs) == 4


async def test_a_stream_that_broke_off_is_not_kept(ingress: LoopbackIngress) -> None:
    body = chat(stream=True, echo={"fault": "error", "at": 2})
    for _ in range(2):
        reply = await ingress.post(CHAT, body, **ON)
        assert said(reply) == (200, "miss")
        assert reply.events[-1]["error"]["code"] == "engine_failed"


# One run for all who ask the same.


@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_the_same_meanwhile_gets_the_same(
    ingress: LoopbackIngress, stream: bool
) -> None:
    body = chat(stream=stream, echo=SLOW)
    replies = await asyncio.gather(*(ingress.post(CHAT, body, **ON) for _ in range(5)))
    assert len(ingress.line.jobs) == 1
    assert sorted(said(reply)[1] for reply in replies) == ["hit"] * 4 + ["miss"]
    assert len({reply.body for reply in replies}) == 1


async def test_who_joins_takes_no_memory(
    ingress: LoopbackIngress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has room for the body, for all; and where two wait for it, one of them joins."""
    asked, both, large = list[int](), asyncio.Event(), "u" * 1000

    async def cover(_: Held, size: int) -> None:
        if size > len(large):  # what is recorded of an answer is less
            asked.append(size)
            if len(asked) == 2:
                both.set()
            await both.wait()

    monkeypatch.setattr(Held, "cover", cover)
    body = chat(echo=SLOW, user=large)
    replies = await asyncio.gather(*(ingress.post(CHAT, body, **ON) for _ in range(2)))
    assert sorted(said(reply)[1] for reply in replies) == ["hit", "miss"]
    assert (len(ingress.line.jobs), len(asked)) == (1, 2)
    replies = await asyncio.gather(
        *(ingress.post(CHAT, {**body, "seed": 1}, **ON) for _ in range(5))
    )
    assert [reply.status for reply in replies] == [200] * 5
    assert len(asked) == 3


async def test_a_failure_is_told_to_all_and_nobody_tries_again(ingress: LoopbackIngress) -> None:
    body = chat(echo={"fault": "error", **SLOW})
    replies = await asyncio.gather(*(ingress.post(CHAT, body, **ON) for _ in range(5)))
    assert [reply.status for reply in replies] == [502] * 5
    assert len(ingress.line.jobs) == 1
    assert said(await ingress.post(CHAT, chat(), **ON)) == (200, "miss")


async def test_who_wants_it_fresh_does_not_join(ingress: LoopbackIngress) -> None:
    body = chat(echo=SLOW)
    fresh = {**ON, "cache_control": "no-cache"}
    replies = await asyncio.gather(
        ingress.post(CHAT, body, **ON), ingress.post(CHAT, body, **fresh)
    )
    assert [said(reply)[1] for reply in replies] == ["miss", "miss"]
    assert len(ingress.line.jobs) == 2


async def test_one_run_serves_all_though_nobody_knows_the_weights(
    ingress: LoopbackIngress,
) -> None:
    ingress.serve(served(""))
    body = chat(echo=SLOW)
    replies = await asyncio.gather(*(ingress.post(CHAT, body, **ON) for _ in range(3)))
    assert len(ingress.line.jobs) == 1
    assert sorted(said(reply)[1] for reply in replies) == ["bypass", "hit", "hit"]


# Embeddings.


async def test_only_the_new_text_of_a_list_is_computed(ingress: LoopbackIngress) -> None:
    await ingress.post(EMBEDDINGS, embeddings(["one", "two three"]), **ON)
    reply = await ingress.post(EMBEDDINGS, embeddings(["two three", "new", "one", "new"]), **ON)
    assert said(reply) == (200, "miss")
    assert reply.headers["x-headrace-cached-items"] == "2"
    assert orjson.loads(ingress.line.jobs[-1].body)["input"] == ["new"]
    plain = await ingress.post(EMBEDDINGS, embeddings(["two three", "new", "one", "new"]))
    assert reply.json == plain.json


@pytest.mark.parametrize("given", ["one", ["one"]])
async def test_a_text_alone_is_found_in_what_was_a_list(
    ingress: LoopbackIngress, given: Any
) -> None:
    await ingress.post(EMBEDDINGS, embeddings(["zero", "one"]), **ON)
    reply = await ingress.post(EMBEDDINGS, embeddings(given), **ON)
    plain = await ingress.post(EMBEDDINGS, embeddings(given))
    assert said(reply) == (200, "hit")
    assert reply.json == plain.json


@pytest.mark.parametrize("other", [{"encoding_format": "base64"}, {"user": "u"}, {"model": "kept"}])
async def test_a_text_under_other_terms_is_computed_anew(
    ingress: LoopbackIngress, other: dict[str, Any]
) -> None:
    await ingress.post(EMBEDDINGS, embeddings("one"), **ON)
    assert said(await ingress.post(EMBEDDINGS, embeddings("one", **other), **ON))[1] == "miss"


async def test_ids_of_tokens_are_one_text(ingress: LoopbackIngress) -> None:
    await ingress.post(EMBEDDINGS, embeddings([1, 2]), **ON)
    assert said(await ingress.post(EMBEDDINGS, embeddings([1, 2]), **ON))[1] == "hit"
    assert said(await ingress.post(EMBEDDINGS, embeddings([2, 1]), **ON))[1] == "miss"


async def test_a_list_that_is_not_all_there_is_none_for_who_wants_no_other(
    ingress: LoopbackIngress,
) -> None:
    await ingress.post(EMBEDDINGS, embeddings("one"), **ON)
    only = {**ON, "cache_control": "only-if-cached"}
    assert (await ingress.post(EMBEDDINGS, embeddings("one"), **only)).status == 200
    assert (await ingress.post(EMBEDDINGS, embeddings(["one", "two"]), **only)).error == (
        504,
        "not_kept",
        None,
    )


async def test_one_text_many_times_makes_no_answer_without_bounds(ingress: LoopbackIngress) -> None:
    """What is kept once would be in the answer thousands of times."""
    wide = {"dimensions": 4096}
    few = await ingress.post(EMBEDDINGS, embeddings(["one"] * 3, **wide), **ON)
    assert len(few.json["data"]) == 3
    reply = await ingress.post(EMBEDDINGS, embeddings(["one"] * 2048, **wide), **ON)
    assert (reply.status, reply.error[1]) == (502, "engine_failed")


# What is counted.


async def test_a_hit_is_counted_as_one(ingress: LoopbackIngress) -> None:
    for _ in range(3):
        await ingress.post(CHAT, chat(), **ON)
    usage = ingress.line.usage
    rows = [row for row in await counted(usage) if row["node"] == ""]
    assert [(row["requests"], row["hits"], row["prompt"]) for row in rows] == [(2, 2, 0)]


async def counted(usage: Any) -> list[dict[str, Any]]:
    await usage.flush()
    rows = unpack(usage._bus.puts[-1].payload)
    return [{name: getattr(row, name) for name in Served.__slots__} for row in rows]

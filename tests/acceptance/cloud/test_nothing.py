"""Providers that answer with status 200 and nothing, or with an error: another one is asked, and
what came is all that is charged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.api import sse
from tests.acceptance.cloud.cloud_setup import INPUT, OUTPUT, CloudSetup, open_cloud
from tests.doubles.drive import CHAT
from tests.doubles.raw import CUT, EVENTS, JSON, WHOLE, RawServer, Said, raw_server
from tests.doubles.spellings import SPELLINGS, TEXT
from tests.fabric import ask
from tests.integration.one_endpoint import post

pytestmark = pytest.mark.asyncio(loop_scope="module")
BROKE = {"code": 502, "message": "upstream broke"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
COST = 3 * INPUT + 4 * OUTPUT


def delta(said: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": said, "finish_reason": reason, **more}]}


def streamed(*events: Any) -> bytes:
    return b"".join(map(sse.dump, events)) + sse.DONE


WORD = delta({"role": "assistant", "content": "Hi"})
ROLE = delta({"role": "assistant", "content": ""})
GOOD = streamed(WORD, delta({}, "stop"), {"id": "c", "choices": [], "usage": USAGE})
DOCUMENT = orjson.dumps(
    {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
    | {"usage": USAGE}
)


def document(**choice: Any) -> bytes:
    return orjson.dumps({"choices": [{"index": 0, "message": {"content": ""}, **choice}]})


STREAMS = {
    "an error beside no choices": streamed({"choices": [], "error": BROKE}),
    "an error of a choice": streamed(ROLE, delta({"content": ""}, "error", error=BROKE)),
    "its end alone": sse.DONE,
    "no word": streamed(ROLE, delta({}, "stop")),
}
DOCUMENTS = {
    "an error of a choice": document(error=BROKE),
    "no word": document(finish_reason="stop"),
    "no choices": b'{"choices":[]}',
    "nothing": b"",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def raw(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[CloudSetup, RawServer, RawServer]]:
    async with (
        open_cloud(tmp_path_factory.mktemp("fabric")) as setup,
        raw_server() as first,
        raw_server() as second,
    ):
        for name, sim in (("first", first), ("second", second)):
            setup.provider(name, sim)
            setup.price(name, "m")
        setup.route("both", ["first/m", "second/m"])
        setup.route("alone", ["first/m"])
        await setup.grant(10**9)
        await setup.ingress()
        await setup.fallback({"fallback.breaker_failures": 1000})
        await setup.provided("alone")
        yield setup, first, second


@pytest.mark.parametrize("name", STREAMS)
async def test_instead_of_a_stream_of_nothing_the_next_ones_is_paid(
    raw: tuple[CloudSetup, RawServer, RawServer], name: str
) -> None:
    setup, first, second = raw
    first.says(CHAT, Said(STREAMS[name]))
    second.says(CHAT, Said(GOOD))
    before = await setup.balance()
    body = {**ask("x", max_tokens=9), "model": "both"}
    assert await setup.fabric.stream(body) == (200, "Hi", True)
    assert (len(first.asked[CHAT]), len(second.asked[CHAT])) == (1, 1)
    await setup.settled(before.available - COST)


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_instead_of_a_document_of_nothing_the_next_ones_is_paid(
    raw: tuple[CloudSetup, RawServer, RawServer], name: str
) -> None:
    setup, first, second = raw
    first.says(CHAT, Said(DOCUMENTS[name], JSON))
    second.says(CHAT, Said(DOCUMENT, JSON))
    before = await setup.balance()
    status, answer, headers = await setup.fabric.post({**ask("x", max_tokens=9), "model": "both"})
    assert (status, headers["x-headrace-served-by"]) == (200, "provider:second"), answer
    assert (len(first.asked[CHAT]), len(second.asked[CHAT])) == (1, 1)
    await setup.settled(before.available - COST)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["no word", "an error of a choice"])
async def test_without_another_it_is_an_honest_error_and_free(
    raw: tuple[CloudSetup, RawServer, RawServer], name: str, stream: bool
) -> None:
    setup, first, _ = raw
    said = Said(STREAMS[name]) if stream else Said(DOCUMENTS[name], JSON)
    first.says(CHAT, said)
    before = await setup.balance()
    body = {**ask("x", max_tokens=9), "model": "alone", "stream": stream}
    status, answer, _headers = await setup.fabric.post(body)
    assert (status, answer["error"]["code"]) == (502, "provider_failed"), answer
    await setup.settled(before.available)


async def test_what_came_before_an_error_is_paid_and_no_more(
    raw: tuple[CloudSetup, RawServer, RawServer],
) -> None:
    setup, first, second = raw
    first.says(CHAT, Said(streamed(WORD, {"choices": [], "error": BROKE})))
    second.says(CHAT, Said(GOOD))
    before = await setup.balance()
    body = {**ask("x", max_tokens=9), "model": "both"}
    status, text, done = await setup.fabric.stream(body)
    assert (status, text, done) == (200, "Hi!stream_interrupted", False)
    assert not second.asked[CHAT]
    entry = (await setup.charges())[-1]
    assert entry.usage is not None
    assert entry.usage.completion == 1
    await setup.settled(before.available - entry.usage.cost)


async def test_a_usage_that_comes_twice_is_charged_once(
    raw: tuple[CloudSetup, RawServer, RawServer],
) -> None:
    setup, first, _ = raw
    usage = [{"id": "c", "choices": [], "usage": {**USAGE, "completion_tokens": n}} for n in (2, 4)]
    first.says(CHAT, Said(streamed(WORD, delta({}, "stop"), *usage)))
    before = await setup.balance()
    body = {**ask("x", max_tokens=9), "model": "alone"}
    assert await setup.fabric.stream(body) == (200, "Hi", True)
    await setup.settled(before.available - COST)


async def test_a_whole_answer_need_not_say_its_end(
    raw: tuple[CloudSetup, RawServer, RawServer],
) -> None:
    setup, first, _ = raw
    first.says(CHAT, Said(GOOD.removesuffix(sse.DONE)))
    before = await setup.balance()
    body = {**ask("x", max_tokens=9), "model": "alone"}
    assert await setup.fabric.stream(body) == (200, "Hi", True)
    await setup.settled(before.available - COST)
    await setup.fabric.processes[-1].logged("provider.end_not_said", provider="first")


@pytest.mark.parametrize("name", SPELLINGS)
async def test_a_stream_in_every_spelling_is_whole(
    raw: tuple[CloudSetup, RawServer, RawServer], name: str
) -> None:
    setup, first, _ = raw
    body = {**ask("x", max_tokens=9), "model": "alone", "stream": True}
    for ending, pieces in (*((each, 1) for each in WHOLE), ("chunked", 9999)):
        first.says(CHAT, Said(SPELLINGS[name], EVENTS, ending, pieces))
        before = await setup.balance()
        answer = await post(setup.fabric, CHAT, body)
        choices = [each for event in sse.objects(answer.body) for each in event["choices"]]
        deltas = [each.get("delta", {}) for each in choices]
        assert "".join(delta.get("content", "") for delta in deltas) == TEXT
        assert answer.body.count(b"[DONE]") == 1
        assert len(first.asked[CHAT]) == 1
        await setup.settled(before.available - COST)


async def test_a_cut_connection_is_no_end(raw: tuple[CloudSetup, RawServer, RawServer]) -> None:
    setup, first, second = raw
    second.says(CHAT, Said(GOOD))
    for ending in CUT:
        first.says(CHAT, Said(GOOD.removesuffix(sse.DONE), EVENTS, ending))
        body = {**ask("x", max_tokens=9), "model": "both"}
        assert await setup.fabric.stream(body) == (200, "Hi!stream_interrupted", False)
    assert not second.asked[CHAT]

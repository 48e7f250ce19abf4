"""What a simulated provider counts and how it fails, seen by a plain client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.doubles.providers import (
    OpenAI,
    Price,
    broken,
    cut,
    hang,
    refuse,
    slow,
    undone,
    unfinished,
    unmetered,
    words,
)
from tests.doubles.providers.faults import Fault

CHAT = "/chat/completions"
PROMPT = "tell #me one two three four five"


def chat(prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "gpt-4o-mini", "messages": messages, **more}


@pytest.fixture
async def sim() -> AsyncIterator[OpenAI]:
    async with OpenAI() as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    sim: OpenAI, client: aiohttp.ClientSession, **more: Any
) -> tuple[int, Mapping[str, str], bytes]:
    async with client.post(sim.base_url + CHAT, json=chat(**more)) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_a_connection_without_a_request_is_counted(sim: OpenAI) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rsplit(":", 1)[1]))
    await sim.record.until(lambda: sim.record.connections == 1)
    writer.close()
    await writer.wait_closed()
    assert sim.record.requests == []


async def test_requests_are_kept_whole(sim: OpenAI, client: aiohttp.ClientSession) -> None:
    before = time.monotonic()
    await ask(sim, client, user="u1")
    [sent] = await sim.seen(1)
    assert sent.body == chat(user="u1")
    assert sent.headers["content-type"] == "application/json"
    assert (sent.model, sent.stream, sent.state, sent.status) == (
        "gpt-4o-mini",
        False,
        "finished",
        200,
    )
    assert before < sent.at <= sent.ended <= time.monotonic()
    assert sim.record.with_text("#me") == [sent]
    assert sent.text == "".join(words.answer(PROMPT)) == "#me one two three four five tell"


async def test_an_abort_is_charged_up_to_its_time(
    sim: OpenAI, client: aiohttp.ClientSession
) -> None:
    sim.pace.tokens, sim.pace.token_s = 10_000, 0.002
    async with client.post(sim.base_url + CHAT, json=chat(stream=True)):
        await sim.generated(3)
    [gone] = await sim.ended("aborted")
    assert 3 <= gone.used.output < 10_000
    assert gone.text == "".join(words.answer(PROMPT, gone.used.output))
    assert gone.used.input == 7
    price = Price(input=Decimal(1), output=Decimal(2))
    expected = Decimal(7 + 2 * gone.used.output) / 1_000_000
    assert sim.record.cost({"gpt-4o-mini": price}) == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_head_is_seen(
    sim: OpenAI, client: aiohttp.ClientSession, stream: bool
) -> None:
    sim.faults.add(hang())
    asking = asyncio.create_task(ask(sim, client, stream=stream))
    await sim.seen(1)
    asking.cancel()
    [gone] = await sim.ended("aborted")
    assert gone.used.output == gone.used.input == 0


async def test_the_gate_holds_tokens_and_the_door_heads(
    sim: OpenAI, client: aiohttp.ClientSession
) -> None:
    sim.pace.may_generate.clear()
    async with client.post(sim.base_url + CHAT, json=chat(stream=True)) as answer:
        assert answer.status == 200
        assert sim.record.live[0].used.output == 0
        sim.pace.may_generate.set()
        assert b"[DONE]" in await answer.read()
    sim.pace.may_answer.clear()
    asking = asyncio.create_task(ask(sim, client))
    await sim.seen(2)
    assert not asking.done()
    sim.pace.may_answer.set()
    assert (await asking)[0] == 200


@pytest.mark.parametrize("fault", [cut(), cut(after=2), cut(2, inside=True), cut(2, reset=True)])
@pytest.mark.parametrize("stream", [False, True])
async def test_connections_are_cut(
    sim: OpenAI, client: aiohttp.ClientSession, fault: Fault, stream: bool
) -> None:
    sim.faults.add(fault)
    with pytest.raises(aiohttp.ClientError):
        await ask(sim, client, stream=stream)
    [sent] = await sim.ended("cut")
    assert sent.used.output == (fault.after or 0)
    assert (await ask(sim, client, stream=stream))[0] == 200


async def test_a_cut_can_be_inside_an_event(sim: OpenAI, client: aiohttp.ClientSession) -> None:
    sim.faults.add(cut(1, inside=True))
    async with client.post(sim.base_url + CHAT, json=chat(stream=True)) as answer:
        whole = [await answer.content.readuntil(b"\n\n") for _ in range(2)]
        assert [event[:6] for event in whole] == [b"data: ", b"data: "]
        assert (await answer.content.readexactly(10)).startswith(b"data: {")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.readuntil(b"\n\n")


@pytest.mark.parametrize(
    ("fault", "state", "has", "lacks"),
    [
        (broken(after=2), "broken", b'{"error":{', b"[DONE]"),
        (unfinished(after=2), "cut", b" one", b'"finish_reason":"stop"'),
        (undone(), "finished", b'"finish_reason":"stop"', b"[DONE]"),
        (unmetered(), "finished", b"[DONE]", b"prompt_tokens"),
        (slow(0.01), "finished", b"prompt_tokens", b"error"),
    ],
)
async def test_streams_end_badly(
    sim: OpenAI,
    client: aiohttp.ClientSession,
    fault: Fault,
    state: str,
    has: bytes,
    lacks: bytes,
) -> None:
    sim.faults.add(fault)
    options = {"include_usage": True}
    status, _, body = await ask(sim, client, stream=True, stream_options=options)
    assert status == 200
    assert has in body
    assert lacks not in body
    assert sim.record.requests[0].state == state


async def test_an_answer_in_one_piece_breaks_as_an_error_document(
    sim: OpenAI, client: aiohttp.ClientSession
) -> None:
    sim.faults.add(broken(after=2, status=503))
    status, _, body = await ask(sim, client)
    assert status == 503
    assert b'"type":"server_error"' in body
    assert sim.record.requests[0].used.output == 2


async def test_faults_wait_for_their_model_and_not_for_a_list_of_models(
    sim: OpenAI, client: aiohttp.ClientSession
) -> None:
    sim.faults.add(refuse(500), model="gpt-4o", times=2)
    sim.faults.add(refuse(503, body={"own": 1}, headers={"x-own": "yes"}))
    async with client.get(f"{sim.base_url}/models") as answer:
        assert answer.status == 200
    first = await ask(sim, client)
    assert (first[0], first[1]["x-own"], first[2]) == (503, "yes", b'{"own":1}')
    statuses = [(await ask(sim, client, model="gpt-4o"))[0] for _ in range(3)]
    assert statuses == [500, 500, 200]
    assert len(sim.faults) == 0


async def test_a_wrong_key_meets_no_fault(client: aiohttp.ClientSession) -> None:
    async with OpenAI(key="sk-right") as sim:
        sim.faults.add(refuse(500))
        assert (await ask(sim, client))[0] == 401
        assert len(sim.faults) == 1
        assert sim.record.requests[0].state == "refused"


async def test_limits_are_real(sim: OpenAI, client: aiohttp.ClientSession) -> None:
    sim.limits.set(requests=2, window_s=30)
    answers = [await ask(sim, client) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    left = [headers["x-ratelimit-remaining-requests"] for _, headers, _ in answers]
    assert left == ["1", "0", "0"]
    assert 0 < int(answers[2][1]["retry-after"]) <= 30
    assert sim.record.requests[2].used.input == 0
    sim.limits.set()
    assert (await ask(sim, client))[0] == 200


async def test_down_refuses_and_up_is_at_the_same_port(
    sim: OpenAI, client: aiohttp.ClientSession
) -> None:
    sim.faults.add(hang(after=1))
    asking = asyncio.create_task(ask(sim, client, stream=True))
    await sim.generated(1)
    url = sim.url
    await sim.down()
    with pytest.raises(aiohttp.ClientPayloadError):
        await asking
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(sim, client)
    await sim.up()
    assert sim.url == url
    assert (await ask(sim, client))[0] == 200
    assert sim.record.counters()["cut"] == 1


async def test_many_at_once(sim: OpenAI) -> None:
    sim.pace.may_generate.clear()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as client:
        prompts = [f"#job{at}. says hello" for at in range(300)]
        asking = [
            asyncio.create_task(ask(sim, client, prompt=prompt, stream=True)) for prompt in prompts
        ]
        await sim.seen(100)
        sim.pace.may_generate.set()
        for prompt, (_, _, body) in zip(prompts, await asyncio.gather(*asking), strict=True):
            assert prompt.split()[0].encode() in body
    assert (sim.record.peak, sim.record.finished, sim.record.connections) == (100, 300, 100)
    assert all(len(sim.record.with_text(prompt)) == 1 for prompt in prompts)

"""Requests with an `Idempotency-Key`: done once, answered as often as they are asked, by every
ingress, and gone on with where one was lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.fabric import Fabric, Process, ask, fabric

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = " ".join(f"w{number}" for number in range(40))


class Two(NamedTuple):
    fabric: Fabric
    here: Process
    there: Process
    worker: Process

    async def began(self) -> int:
        """Jobs, so far."""
        await self.worker.caught_up()
        return self.worker.count("runner.began")


class Event(NamedTuple):
    id: int
    data: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    """Two ingresses before one worker."""
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            here, there, worker = await asyncio.gather(
                made.ingress(), made.ingress(), made.worker()
            )
            for ingress in (here, there):
                await made.served("echo", url=ingress.url)
            yield Two(made, here, there, worker)


async def events_of(answer: aiohttp.ClientResponse, most: int = 10_000) -> list[Event]:
    """The events of a stream, `most` at most."""
    found, number = list[Event](), 0
    async for raw in answer.content:
        line = raw.decode().strip()
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            found.append(Event(number, line[6:]))
            if len(found) == most:
                break
    return found


def text_of(events: list[Event]) -> str:
    chunks = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


class Asker:
    """Asks one thing with one key, of any ingress."""

    def __init__(self, made: Fabric, key: str, body: dict[str, Any]) -> None:
        self.made, self.key, self.body = made, key, body

    def post(self, ingress: Process, last: int = 0) -> Any:
        place = {"Last-Event-ID": str(last)} if last else {}
        return self.made.session.post(
            f"{ingress.url}/v1/chat/completions",
            json=self.body,
            headers={**self.made.headers, "Idempotency-Key": self.key, **place},
        )

    async def answer(self, ingress: Process) -> tuple[int, Any, bool]:
        async with self.post(ingress) as answer:
            replayed = answer.headers.get("idempotent-replayed") == "true"
            return answer.status, await answer.json(), replayed

    async def events(self, ingress: Process, last: int = 0) -> list[Event]:
        async with self.post(ingress, last) as answer:
            assert answer.status == 200
            return await events_of(answer)


async def test_what_was_answered_is_answered_again_and_done_once(two: Two) -> None:
    asker = Asker(two.fabric, "again", ask("one two three"))
    before = await two.began()
    status, first, replayed = await asker.answer(two.here)
    assert (status, replayed) == (200, False)
    assert await asker.answer(two.here) == (200, first, True)
    assert await asker.answer(two.there) == (200, first, True)
    assert await two.began() == before + 1


async def test_a_replay_has_an_id_of_its_own_by_each_name_of_it(two: Two) -> None:
    url = f"{two.here.url}/v1/messages"
    said = []
    for number in range(2):
        own = {"Idempotency-Key": "ids", "x-request-id": f"mine-{number}"}
        body = {"max_tokens": 9, **ask("one two")}
        async with two.fabric.session.post(
            url, json=body, headers={**two.fabric.headers, **own}
        ) as answer:
            assert answer.status == 200, await answer.text()
            names = ("x-request-id", "request-id", "idempotent-replayed")
            said.append([answer.headers.get(name) for name in names])
    assert said == [["mine-0", "mine-0", None], ["mine-1", "mine-1", "true"]]


async def test_so_is_what_is_asked_while_it_is_being_answered(two: Two) -> None:
    asker = Asker(two.fabric, "meanwhile", ask(WORDS, echo={"token_ms": 20}))
    before = await two.began()
    first = asyncio.create_task(asker.answer(two.here))
    await two.worker.logged("runner.began", skip=before)
    others = await asyncio.gather(asker.answer(two.here), asker.answer(two.there))
    status, body, replayed = await first
    assert (status, replayed) == (200, False)
    assert [*others] == [(200, body, True)] * 2
    assert await two.began() == before + 1


async def test_another_request_with_the_same_key_is_refused(two: Two) -> None:
    await Asker(two.fabric, "mine", ask("mine")).answer(two.here)
    other = Asker(two.fabric, "mine", ask("yours"))
    for ingress in (two.here, two.there):
        status, body, _ = await other.answer(ingress)
        assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")
        assert body["error"]["param"] == "Idempotency-Key"


async def test_a_stream_goes_on_behind_the_last_event_that_its_client_has(two: Two) -> None:
    asker = Asker(two.fabric, "stream", ask("a b c d e f", stream=True))
    events = await asker.events(two.here)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == "a b c d e f"
    for ingress in (two.here, two.there):
        assert await asker.events(ingress) == events
        assert await asker.events(ingress, last=3) == events[3:]
        assert await asker.events(ingress, last=len(events)) == []


async def test_what_its_client_left_goes_on_and_can_be_had(two: Two) -> None:
    asker = Asker(two.fabric, "left", ask(WORDS, stream=True, echo={"token_ms": 20}))
    async with asker.post(two.here) as answer:
        begun = await events_of(answer, most=5)
    rest = await asker.events(two.there, last=begun[-1].id)
    assert text_of(begun + rest) == WORDS
    assert rest[-1].data == "[DONE]"


async def test_what_failed_may_be_tried_again(two: Two) -> None:
    asker = Asker(two.fabric, "fails", ask("x", echo={"fault": "500"}))
    before = await two.began()
    for ingress in (two.here, two.there):
        status, body, replayed = await asker.answer(ingress)
        assert (status, body["error"]["code"], replayed) == (502, "engine_failed", False)
    assert await two.began() == before + 6


@pytest.mark.parametrize("key", [" ", "k" * 256, "tab\tinside"])
async def test_a_key_that_is_none(two: Two, key: str) -> None:
    status, body, _ = await Asker(two.fabric, key, ask("x")).answer(two.here)
    assert (status, body["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_place_that_is_none(two: Two) -> None:
    headers = {**two.fabric.headers, "Idempotency-Key": "k", "Last-Event-ID": "chatcmpl-1"}
    url = f"{two.here.url}/v1/chat/completions"
    async with two.fabric.session.post(url, json=ask("x"), headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "Last-Event-ID")


async def test_forms_are_the_same_whatever_their_boundary(two: Two) -> None:
    """The echo engine takes no forms: the refusal is of the model, and not of the key."""
    for _ in range(2):
        form = aiohttp.FormData({"model": "echo"})
        form.add_field("file", b"RIFF", filename="a.wav")
        headers = {**two.fabric.headers, "Idempotency-Key": "form"}
        url = f"{two.here.url}/v1/audio/transcriptions"
        async with two.fabric.session.post(url, data=form, headers=headers) as answer:
            assert (await answer.json())["error"]["code"] == "unsupported_endpoint"


async def test_another_ingress_goes_on_where_one_was_killed(two: Two) -> None:
    victim = await two.fabric.ingress()
    await two.fabric.served("echo", url=victim.url)
    asker = Asker(two.fabric, "killed", ask(WORDS, stream=True, echo={"token_ms": 50}))
    async with asker.post(victim) as answer:
        begun = await events_of(answer, most=9)
        await victim.kill()
    rest = await asker.events(two.there, last=begun[-1].id)
    assert text_of(begun + rest) == WORDS
    assert [event.id for event in begun + rest] == list(range(1, len(begun + rest) + 1))
    assert rest[-1].data == "[DONE]"
    assert text_of(await asker.events(two.here)) == WORDS
    await two.fabric.idle()


async def test_what_nobody_asks_for_again_is_stopped(two: Two) -> None:
    brief = await two.fabric.ingress({"ingress.unheard": 0.1})
    await two.fabric.served("echo", url=brief.url)
    body = ask(WORDS, stream=True, echo={"token_ms": 200})
    async with Asker(two.fabric, "gone", body).post(brief) as answer:
        await events_of(answer, most=2)
    await two.worker.logged("runner.ended", outcome="cancelled")
    await two.fabric.idle()

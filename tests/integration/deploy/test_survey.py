"""What `headrace status` and `headrace doctor` find on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy import doctor, survey
from deploy.configure import Unreachable, Where
from deploy.findings import Finding
from deploy.nats.broker import Broker
from deploy.survey import Surveyor
from schemas import subjects, topology
from schemas.bus import Bus, Message
from schemas.jetstream import queues, streams
from schemas.jetstream.queues import Queue
from schemas.jetstream.words import seconds
from schemas.nodes import Card, EngineState, ServedModel
from schemas.settings import Jobs, Nats

MODEL = "org/model:1.5"
SUBJECT = subjects.jobs(MODEL, subjects.INTERACTIVE, "acme")


def admin(broker: Broker) -> Nats:
    user, password = broker.users["admin"]
    return Nats.model_validate({"url": broker.url, "user": user, "password": password})


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with survey.connected(admin(broker), "test") as connected:
        yield connected


@pytest.fixture
async def queue(bus: Bus) -> Bus:
    """Streams and one consumer as the processes make them."""
    await streams.ensure(bus, topology.streams(Jobs(), 1))
    await streams.ensure_consumer(
        bus, subjects.JOBS_STREAM, topology.consumer(MODEL, subjects.INTERACTIVE, 3.0, 1)
    )
    return bus


async def publish(bus: Bus, subject: str, count: int = 1, **headers: str) -> None:
    for _ in range(count):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        bus.post(subject, b"job", headers=named or None)
    await bus.flush()


async def pull(bus: Bus, count: int) -> list[Message]:
    """Take jobs as a worker does."""
    taken: asyncio.Queue[Message] = asyncio.Queue()
    inbox = f"{bus.inbox}.pull"
    await bus.subscribe(inbox, taken.put_nowait)
    name = subjects.consumer(MODEL, subjects.INTERACTIVE)
    request = {"batch": count, "expires": topology.NS, "group": subjects.GROUP}
    bus.post(f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{name}", orjson.dumps(request), inbox)
    return [await taken.get() for _ in range(count)]


async def test_nothing_is_there_yet(bus: Bus) -> None:
    assert await queues.read(bus) == []
    assert await survey.dead_letters(bus) == {}


async def test_jobs_that_wait_and_jobs_in_flight(queue: Bus) -> None:
    await publish(queue, SUBJECT, 5)
    await pull(queue, 2)
    (found,) = await queues.read(queue)
    assert found.oldest is not None
    assert 0 <= found.oldest < 60
    assert found == Queue(MODEL, "i", 5, 3, 2, found.oldest, 0, True)


async def test_the_oldest_is_the_first_that_waits(queue: Bus) -> None:
    """Not the first of the stream, which somebody works on, nor one of another model."""
    await publish(queue, SUBJECT)
    await pull(queue, 1)
    assert (await queues.read(queue))[0].oldest is None
    await publish(queue, subjects.jobs("other", "b", "acme"))
    between = seconds((await queue.api("STREAM.INFO.JOBS"))["ts"])
    await publish(queue, SUBJECT)
    now = seconds((await queue.api("STREAM.INFO.JOBS"))["ts"])
    other, mine = sorted(await queues.read(queue), key=lambda each: each.model == MODEL)
    assert (other.model, other.lane, other.depth, other.served) == ("other", "b", 1, False)
    assert mine.oldest is not None
    assert other.oldest is not None
    assert mine.oldest < other.oldest
    after = seconds((await queue.api("STREAM.INFO.JOBS"))["ts"])
    assert mine.oldest <= after - between
    assert now >= between


async def test_jobs_that_were_given_back_count_as_retried(queue: Bus) -> None:
    await publish(queue, SUBJECT)
    (taken,) = await pull(queue, 1)
    queue.post(taken.reply, b"-NAK")
    await pull(queue, 1)
    assert [each.retried for each in await queues.read(queue)] == [1]


async def test_more_consumers_than_one_page(queue: Bus) -> None:
    for number in range(300):
        config = topology.consumer(f"m{number}", subjects.BATCH, 3.0, 1)
        await streams.ensure_consumer(queue, subjects.JOBS_STREAM, config)
    found = await queues.read(queue)
    assert len({each.model for each in found}) == 301


async def test_dead_letters_by_model(queue: Bus) -> None:
    await publish(queue, subjects.dead(MODEL), 2, Headrace_Error="it burnt: again")
    assert await survey.dead_letters(queue) == {MODEL: 2}
    assert await doctor.last_error(queue, MODEL) == "it burnt: again"
    assert await doctor.last_error(queue, "other") == "gone meanwhile"
    await publish(queue, subjects.dead("bare"))
    assert await doctor.last_error(queue, "bare") == "no error was kept"


@asynccontextmanager
async def beating(bus: Bus, **cards: bytes) -> AsyncIterator[None]:
    """Send cards as workers do."""

    async def beat() -> None:
        while True:
            for holder, card in cards.items():
                bus.post(f"hb.{holder}", card)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


async def test_whom_the_surveyor_hears(queue: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "GATHER", 0.3)
    surveyor = Surveyor(queue, "nats://x")
    about = {"ingress": "in-1", "address": "127.0.0.1:1"}
    await queue.serve("headrace-ingress", "an ingress", about, "1.2.3")
    async with beating(
        queue,
        **{"node.one": Card("node.one", "node", "s", 1, "1.2.3").pack(), "node.two": b"nonsense"},
    ):
        await surveyor.gather()
    seen = await surveyor.look()
    assert [card.holder for card in seen.cards] == ["node.one"]
    assert [(each.address, each.version) for each in seen.ingresses] == [("127.0.0.1:1", "1.2.3")]
    assert seen.version.startswith("2.")
    monkeypatch.setattr(survey, "STALE", 0.0)
    assert (await surveyor.look()).cards == ()


async def test_who_is_refused(broker: Broker) -> None:
    wrong = admin(broker).model_copy(update={"user": "nobody"})
    with pytest.raises(
        Unreachable, match=f"{broker.url}: .*the login 'nobody': give one as --nats"
    ):
        async with survey.connected(wrong, "test"):
            pass


# The doctor, on the same broker


async def examined(broker: Broker) -> dict[str, list[Finding]]:
    """Everything it finds, by level."""
    user, password = broker.users["admin"]
    url = broker.url.replace("nats://", f"nats://{user}:{password}@")
    found: dict[str, list[Finding]] = {"ok": [], "warn": [], "fail": []}
    async for finding in doctor.everything(Where(broker.store.parent, nats=url)):
        found[finding.level].append(finding)
    return found


def whats(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found]


async def test_what_is_missing(broker: Broker) -> None:
    found = await examined(broker)
    names = ("JOBS", "DEAD", "USAGE", "ANSWERS", "ALERTS")
    missing = [f"stream {name} is missing" for name in names]
    assert whats(found["fail"]) == missing
    assert whats(found["warn"]) == ["no ingress is connected", "no worker is connected"]
    assert all(finding.mend for level in ("warn", "fail") for finding in found[level])
    assert any("when a connection ends, after" in what for what in whats(found["ok"]))
    assert "the broker pings every 2 s and gives up after 2" in whats(found["ok"])


async def test_what_differs(broker: Broker, queue: Bus) -> None:
    info: dict[str, Any] = await queue.api("STREAM.INFO.JOBS")
    await queue.api("STREAM.UPDATE.JOBS", {**info["config"], "max_msgs_per_subject": 7})
    config = topology.consumer(MODEL, subjects.INTERACTIVE, 9.0, 1)
    await streams.ensure_consumer(queue, subjects.JOBS_STREAM, config)
    config = topology.consumer(MODEL, subjects.BATCH, 3.0, 1)
    await streams.ensure_consumer(queue, subjects.JOBS_STREAM, config)
    await publish(queue, subjects.dead(MODEL), Headrace_Error="it burnt")
    served = (
        ServedModel(MODEL, "a", "echo", 1),
        ServedModel("unheard of", "a", "echo", 1),
    )
    states = (
        EngineState("a", "echo", "ready", 1, 0),
        EngineState("b", "echo", "failed", 1, 0, "it does not answer"),
        EngineState("c", "echo", "starting", 1, 0),
    )
    card = Card("node.one", "node", "s", 1, "1", engines=states, models=served)
    async with beating(queue, **{"node.one": card.pack()}):
        found = await examined(broker)
    assert whats(found["fail"]) == [
        "stream JOBS differs: max_msgs_per_subject 7 and not 1000",
        f"consumer {subjects.consumer(MODEL, 'i')} differs: ack_wait 9000000000 and not 3000000000",
        f"consumer {subjects.consumer('unheard of', 'i')} is missing",
        f"consumer {subjects.consumer('unheard of', 'b')} is missing",
        "engine b on node failed: it does not answer",
    ]
    assert whats(found["warn"])[1:] == [
        "engine c on node is starting",
        f"dead letters: 1 of {MODEL}, the last one: it burnt",
    ]


async def test_a_broker_that_is_away(tmp_path: Path) -> None:
    found = [each async for each in doctor.everything(Where(tmp_path, nats="nats://127.0.0.1:9"))]
    assert [finding.level for finding in found] == ["ok", "ok", "fail"]
    assert "no broker answers" in found[-1].what
    assert "headrace up" in found[-1].what


async def test_settings_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[ingress]\nprot = 1\n")
    (found,) = [each async for each in doctor.everything(Where(tmp_path, path))]
    assert found.level == "fail"
    assert "did you mean 'port'" in found.what

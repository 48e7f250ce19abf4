from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import orjson
import pytest
import structlog

from schemas import nodes, ranks, subjects
from schemas.bus import BusError
from schemas.frames import Claim, Kind, Op, pack_control, unpack
from schemas.nodes import Card
from schemas.otel.telemetry import Telemetry
from schemas.ranks import Rank
from schemas.registry import Order
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import member as holders
from workers.node import Worker
from workers.traced import Tracer

CONFIG = Settings.model_validate(
    {
        "worker": {"node": "box 1", "drain": 0.5, "metrics_port": -1},
        "engines": [
            {"name": "one", "kind": "echo", "url": "echo://?model=a&slots=2"},
            {"name": "two", "kind": "echo", "url": "echo://?model=b&slots=1"},
        ],
    }
)


class WorkerSetup:
    """A worker process without the process."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.read = CONFIG
        self.worker = Worker(CONFIG, lambda: self.read)
        self.run = asyncio.create_task(self.worker.run())

    def cards(self) -> list[Card]:
        sent = [post.payload for post in self.bus.posts if post.subject.startswith("hb.")]
        return [nodes.unpack(payload) for payload in sent]

    async def until_ready(self) -> Card:
        def ready(_: object) -> bool:
            return any(len(card.models) == 2 for card in self.cards())

        await self.bus.until(ready)
        return self.cards()[-1]

    async def stop(self) -> None:
        self.worker.stop()
        async with asyncio.timeout(fakes.PATIENCE):
            await self.run


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerSetup]:
    bus = FakeBus()

    async def connect(_: Any, name: str, inbox: str) -> FakeBus:
        assert name == "headrace-worker/box 1 one,two"
        bus.inbox = inbox
        return bus

    monkeypatch.setattr("workers.member.buses.connect", connect)
    made = WorkerSetup(bus)
    yield made
    made.run.cancel()
    await asyncio.gather(made.run, return_exceptions=True)


async def test_the_card_says_what_it_serves(setup: WorkerSetup) -> None:
    card = await setup.until_ready()
    assert [(model.id, model.slots) for model in card.models] == [("a", 2), ("b", 1)]
    assert (card.node, card.server, card.client, card.draining) == ("box 1", "S", 7, False)
    assert [engine.state for engine in card.engines] == ["ready", "ready"]
    assert card.holder.startswith(subjects.encode("box 1") + ".")
    assert setup.bus.inbox == f"_W.{card.holder}"
    assert {post.subject for post in setup.bus.posts if post.subject.startswith("hb.")} == {
        f"hb.{card.holder}"
    }
    assert setup.bus.served == ["headrace-worker"]
    await setup.stop()


async def test_each_model_has_a_pull_for_all_slots_and_one_for_pinned_jobs(
    setup: WorkerSetup,
) -> None:
    await setup.until_ready()
    await fakes.turns()
    pulls = [post.subject for post in setup.bus.posts if ".MSG.NEXT." in post.subject]
    assert sorted(pull.rpartition(".")[2] for pull in pulls) == [
        *("a-i4", "a-n-box=2014"),
        *("b-i4", "b-n-box=2014"),
    ]
    await setup.stop()


async def test_an_engine_asks_with_the_rank_that_an_ingress_tells(setup: WorkerSetup) -> None:
    holder = (await setup.until_ready()).holder
    for given in (b"none", ranks.pack([Rank("two", "b", 4), Rank("away", "b", 5)])):
        told = pack_control(Op.RANK, "", 0, 0, given)
        setup.bus.deliver(fakes.message(subjects.control(holder), told))
    setup.bus.posts.clear()
    await setup.bus.reconnect()
    await setup.bus.until(lambda _: setup.cards())
    pulls = [post for post in setup.bus.posts if ".MSG.NEXT." in post.subject]
    asked = {(each.subject.split(".")[-1][0], each.payload) for each in pulls}
    assert {(model, orjson.loads(each)["priority"]) for model, each in asked} == {
        ("a", 0),
        ("b", 4),
    }
    await setup.stop()


async def test_the_card_comes_by_itself(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "TICK", 0.001)
    await setup.until_ready()
    before = len(setup.cards())
    await setup.bus.until(lambda _: len(setup.cards()) >= before + 3)
    await setup.stop()
    assert setup.cards()[-1].models == ()


async def test_facts_are_told_when_they_are_new_and_to_who_asks(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "TICK", 0.001)
    monkeypatch.setattr(holders, "SHOWN_EACH", 60.0)
    holder = (await setup.until_ready()).holder

    def whole() -> list[bool]:
        told = [p.payload for p in setup.bus.posts if p.subject == subjects.card(holder)]
        return [b'"same"' not in card for card in told]

    await setup.bus.until(lambda _: whole()[-3:] == [False] * 3)
    setup.bus.posts.clear()
    asks = fakes.message(subjects.control(holder), pack_control(Op.SHOW, "", 0))
    setup.bus.deliver(asks)
    setup.bus.deliver(asks)
    await setup.bus.until(lambda _: len(whole()) > 3)
    assert sum(whole()) == 0, "one for all who ask within that time: what was told at first"
    monkeypatch.setattr(holders, "SHOWN_EACH", -1.0)
    setup.bus.posts.clear()
    setup.bus.deliver(asks)
    assert whole()[0]
    setup.bus.posts.clear()
    await setup.bus.reconnect()
    await setup.bus.until(lambda _: any(whole()))
    await setup.stop()


async def test_on_a_new_connection_it_pulls_afresh_and_says_so(setup: WorkerSetup) -> None:
    await setup.until_ready()
    await fakes.turns()
    setup.bus.posts.clear()
    await setup.bus.reconnect()
    await setup.bus.until(lambda _: setup.cards())
    assert len([post for post in setup.bus.posts if ".MSG.NEXT." in post.subject]) == 4
    await setup.stop()


async def test_drained_by_the_hub_it_stays_and_pulls_nothing_until_it_is_undrained(
    setup: WorkerSetup,
) -> None:
    holder = (await setup.until_ready()).holder

    def order(drained: bool) -> None:
        given = Order("box 1", drained).pack()
        setup.bus.deliver(
            fakes.message(subjects.control(holder), pack_control(Op.ORDER, "", 0, 0, given))
        )

    def pulls() -> int:
        return sum(".MSG.NEXT." in post.subject for post in setup.bus.posts)

    await fakes.turns()
    order(True)
    await setup.bus.until(lambda _: setup.cards()[-1].draining)
    assert setup.cards()[-1].models == ()
    assert [engine.state for engine in setup.cards()[-1].engines] == ["ready", "ready"]
    await fakes.turns()
    before = pulls()
    await setup.bus.reconnect()
    await fakes.turns()
    assert pulls() == before
    order(False)
    await setup.bus.until(lambda _: pulls() == before + 4)
    await setup.bus.until(lambda _: len(setup.cards()[-1].models) == 2)
    assert not setup.cards()[-1].draining
    await setup.stop()


async def test_stopped_it_says_so_and_leaves(setup: WorkerSetup) -> None:
    await setup.until_ready()
    await setup.stop()
    assert (setup.cards()[-1].draining, setup.cards()[-1].models) == (True, ())
    assert not setup.bus.up


@pytest.mark.parametrize("finishes", [True, False])
async def test_what_runs_is_finished_or_handed_back(setup: WorkerSetup, finishes: bool) -> None:
    await setup.until_ready()
    await fakes.turns()
    fault = {} if finishes else {"fault": "hang"}
    body = {"messages": [{"role": "user", "content": "x y"}], "echo": {"token_ms": 5, **fault}}
    job = fakes.job(model="a", body=orjson.dumps(body))
    pulls = [post for post in setup.bus.posts if post.subject.endswith(".MSG.NEXT.JOBS.a-i4")]
    setup.bus.deliver(fakes.message(pulls[0].reply, job.pack(), fakes.ack()))
    frames_of = f"r.in-1.box=201.{job.id}"
    await setup.bus.until(lambda _: setup.bus.to(frames_of))
    (claim,) = unpack(setup.bus.to(frames_of)[0])
    go = pack_control(Op.GO, job.id, claim.nonce)
    setup.bus.deliver(fakes.message(f"c.{Claim.of(claim.body).holder}", go))
    await setup.stop()
    last = unpack(setup.bus.to(frames_of)[-1])[-1]
    assert last.kind == (Kind.END if finishes else Kind.FAIL)
    assert setup.bus.to(fakes.ack())[-1] == (b"+ACK" if finishes else b"-NAK")


async def test_a_broker_that_closes_the_connection_ends_it(setup: WorkerSetup) -> None:
    await setup.until_ready()
    setup.bus.closed.set()
    with pytest.raises(BusError, match="closed the connection"):
        await setup.run


async def test_before_it_has_a_broker_signals_end_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handled: list[int] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", lambda number, _: handled.append(number))

    async def never(*_: Any) -> FakeBus:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("workers.member.buses.connect", never)
    running = asyncio.create_task(Worker(CONFIG).run())
    await fakes.turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert handled == []


def with_engines(*engines: dict[str, str]) -> Settings:
    return CONFIG.model_copy(
        update={"engines": Settings.model_validate({"engines": engines}).engines}
    )


ONE, TWO = (engine.model_dump(include={"name", "kind", "url"}) for engine in CONFIG.engines)
THREE = {"name": "three", "kind": "echo", "url": "echo://?model=c&slots=1"}


FOUR = {"name": "four", "kind": "echo", "url": "echo://?model=d&slots=1"}


async def reload(setup: WorkerSetup, *engines: dict[str, str], models: int) -> tuple[Any, Any]:
    """Have it read these settings, and wait until it serves so many models. What it says is
    applied, and what needs a restart."""
    setup.read = with_engines(*engines)
    with structlog.testing.capture_logs() as said:
        os.kill(os.getpid(), signal.SIGHUP)
        await setup.bus.until(lambda _: len(setup.cards()[-1].models) == models)
    [told] = [line for line in said if line["event"] == "worker.reloaded"]
    return told["applied"], told["restart"]


async def test_an_engine_that_is_new_in_the_settings_is_served(setup: WorkerSetup) -> None:
    await setup.until_ready()
    assert await reload(setup, ONE, TWO, THREE, models=3) == (["engines"], [])
    assert [model.id for model in setup.cards()[-1].models] == ["a", "b", "c"]
    assert await reload(setup, ONE, TWO, THREE, FOUR, models=4) == (["engines"], [])
    assert [engine.name for engine in setup.cards()[-1].engines] == ["one", "two", "three", "four"]
    await setup.stop()


async def test_engines_that_changed_or_are_gone_go_on_until_a_restart(setup: WorkerSetup) -> None:
    await setup.until_ready()
    changed = {**ONE, "url": "echo://?model=z"}
    assert await reload(setup, changed, THREE, models=3) == ([], ["engines"])
    assert await reload(setup, changed, THREE, FOUR, models=4) == ([], ["engines"])
    assert [model.id for model in setup.cards()[-1].models] == ["a", "b", "c", "d"]
    await setup.stop()


async def test_traces_know_an_engine_that_is_new(setup: WorkerSetup) -> None:
    await setup.until_ready()
    tracer = setup.worker._runner.tracer = Tracer(cast(Telemetry, None))
    await reload(setup, ONE, TWO, THREE, models=3)
    assert list(tracer._places) == ["three"]
    await setup.stop()


async def test_an_engine_that_still_opens_at_the_end_is_given_up(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setup.until_ready()
    opening = asyncio.Event()

    async def open() -> None:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("workers.node.build", lambda _: SimpleNamespace(open=open))
    setup.read = with_engines(ONE, TWO, THREE)
    os.kill(os.getpid(), signal.SIGHUP)
    async with asyncio.timeout(fakes.PATIENCE):
        await opening.wait()
    await setup.stop()
    assert not setup.worker._adding


async def test_an_engine_that_opens_during_the_drain_is_closed(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setup.until_ready()
    opened, closed = AsyncMock(), AsyncMock()
    made = SimpleNamespace(open=opened, close=closed, name="three")
    monkeypatch.setattr("workers.node.build", lambda _: made)
    setup.worker._draining = True
    await setup.worker._start(with_engines(THREE).engines[0])
    assert (opened.await_count, closed.await_count) == (1, 1)
    assert [engine.name for engine in setup.worker.card().engines] == ["one", "two"]
    await setup.stop()


async def test_a_new_engine_of_a_drained_node_pulls_nothing(setup: WorkerSetup) -> None:
    holder = (await setup.until_ready()).holder
    await fakes.turns()
    order = pack_control(Op.ORDER, "", 0, 0, Order("box 1", True).pack())
    setup.bus.deliver(fakes.message(subjects.control(holder), order))
    await setup.bus.until(lambda _: setup.cards()[-1].draining)
    await fakes.turns()
    setup.bus.posts.clear()
    setup.read = with_engines(ONE, TWO, THREE)
    os.kill(os.getpid(), signal.SIGHUP)

    def ready(_: object) -> bool:
        return any(
            engine.name == "three" and engine.state == "ready"
            for card in setup.cards()
            for engine in card.engines
        )

    await setup.bus.until(ready)
    await fakes.turns()
    assert not [post for post in setup.bus.posts if ".MSG.NEXT." in post.subject]
    await setup.stop()

"""An ingress from its start to its end, over a bus that records."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import aiohttp
import pytest
import structlog
from structlog.testing import LogCapture

from ingress import server as servers
from ingress.http.listeners import ListenFailed
from ingress.server import Ingress
from schemas import jobs, settings, subjects, topology
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import streams
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus, card, message
from tests.unit.ingress.asgi import CHAT, KEY, SECRET
from tests.unit.ingress.jobs.recorder import Holder
from tests.unit.ingress.jobs.test_replies import packed

CONFIG = Settings.model_validate({"ingress": {"port": 0, "drain": 5}, "keys": [KEY]})
A = Holder("w.1", 1)
JOBS = "jobs.echo.i4.acme"


def jetstream(verb: str, _: Any) -> dict[str, Any]:
    if verb.startswith("STREAM.INFO"):
        raise NotFound(verb, {"description": "stream not found"})
    if verb.startswith("CONSUMER.LIST"):
        known = {"config": {"metadata": {"headrace.model": "absent"}}}
        return {"total": 1, "consumers": [known]}
    return {}


class IngressSetup:
    def __init__(self, bus: FakeBus, log: LogCapture) -> None:
        self.bus = bus
        self.log = log
        self.ingress = Ingress(CONFIG)
        self.run = asyncio.create_task(self.ingress.run())
        self.session = aiohttp.ClientSession(headers={"authorization": f"Bearer {SECRET}"})

    async def url(self) -> str:
        """Its address, once it listens."""
        async with asyncio.timeout(fakes.PATIENCE):
            while True:
                for line in self.log.entries:
                    if line["event"] == "ingress.listening":
                        return str(line["url"])
                await asyncio.sleep(0)

    async def stop(self) -> None:
        self.ingress.stop()
        async with asyncio.timeout(fakes.PATIENCE):
            await self.run


@pytest.fixture
async def setup(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IngressSetup]:
    bus.api_answer = jetstream

    async def connect(_: Any, name: str, inbox: str) -> FakeBus:
        assert name.startswith("headrace-ingress/in-")
        bus.inbox = inbox
        return bus

    monkeypatch.setattr("ingress.server.buses.connect", connect)
    log = LogCapture()
    structlog.configure(processors=[log])
    made = IngressSetup(bus, log)
    yield made
    await made.session.close()
    made.ingress.stop()
    async with asyncio.timeout(fakes.PATIENCE):
        await asyncio.gather(made.run, return_exceptions=True)
    structlog.reset_defaults()


async def test_it_makes_streams_and_learns_models_before_it_listens(setup: IngressSetup) -> None:
    url = await setup.url()
    verbs = [verb for verb, _ in setup.bus.api_calls]
    assert {f"STREAM.CREATE.{name}" for name in ("JOBS", "DEAD", "USAGE")} <= set(verbs)
    assert verbs[-1] == "CONSUMER.LIST.JOBS"
    wanted = {subjects.ALL_CARDS, subjects.DISCONNECTS}
    assert wanted <= {subscription.subject for subscription in setup.bus.subscriptions}
    assert setup.bus.served == ["headrace-ingress"]
    async with setup.session.get(url + "/readyz") as answer:
        assert (answer.status, await answer.json()) == (
            200,
            {"status": "ok", "faults": [], "models": []},
        )
    await setup.stop()
    assert not setup.bus.up


async def test_stopped_it_finishes_what_runs(setup: IngressSetup) -> None:
    url = await setup.url()
    setup.bus.deliver(message("hb.w.1", card("w.1", "echo").pack()))
    asked = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    call = asyncio.create_task(setup.session.post(url + CHAT, json=asked))
    await setup.bus.until(lambda posts: [p for p in posts if p.subject == JOBS])
    (job,) = [post for post in setup.bus.posts if post.subject == JOBS]
    setup.ingress.stop()
    await fakes.turns()
    frames = packed(A.claim(), A.start(kind="application/json"), A.data(1, b"{}"), A.end(2))
    ingress, given = job.reply.split(".")[1], jobs.unpack(job.payload).id
    setup.bus.deliver(message(subjects.frames(ingress, A.name, given), frames))
    answer = await call
    assert (answer.status, await answer.read()) == (200, b"{}")
    await setup.stop()


async def test_its_card_has_the_port_that_it_really_has(setup: IngressSetup) -> None:
    url = await setup.url()
    assert url == f"http://{setup.bus.about['address']}"


def test_an_address_is_one_that_can_stand_in_a_url() -> None:
    assert servers._address("::1", 80) == "[::1]:80"
    assert servers._address("127.0.0.1", 80) == "127.0.0.1:80"


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
async def test_an_address_that_cannot_be_had(host: str, bus: FakeBus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        edge = {"host": host, "port": taken.getsockname()[1]}
        config = Settings.model_validate({"ingress": edge, "keys": [KEY]})
        with pytest.raises(ListenFailed, match=f"cannot listen on {host}:.*--port"):
            await Ingress(config).run()


async def test_a_broker_that_closes_the_connection_ends_it(setup: IngressSetup) -> None:
    await setup.url()
    setup.bus.closed.set()
    with pytest.raises(BusError, match="closed the connection"):
        await setup.run


async def test_streams_are_waited_for(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [BusError("no responders")]
    sleep = asyncio.sleep

    def slow(verb: str, body: Any) -> dict[str, Any]:
        if faults:
            raise faults.pop()
        return jetstream(verb, body)

    monkeypatch.setattr("ingress.server.asyncio.sleep", lambda _: sleep(0))
    bus.api_answer = slow
    wanted = topology.streams(CONFIG.jobs, 1)
    await servers._surely(partial(streams.ensure, cast(Bus, bus), wanted))
    assert bus.api_calls[-1][0] == "STREAM.CREATE.ALERTS"


def test_few_files_are_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.http.descriptors.limit", lambda: 1024)
    for wanted, found in ((1000, 640), (64, 64)):
        assert servers._places(settings.Ingress(max_connections=wanted))._most == found

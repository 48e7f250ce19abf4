"""Several processes as one ingress, through their one port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy import survey
from deploy.nats.broker import Broker
from tests.fabric import KEY, Fabric, Process, ask, counts, opened
from tests.integration.test_fair import KEYS, Tenants, order
from tests.integration.test_limits import SECRET, key

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one port needs Linux")

SLOTS = 64
SLOW = f"echo://?model=echo&token_ms=25&slots={SLOTS}"
LONG = "one two three four five six seven eight nine ten " * 6


class Family:
    """An ingress of two processes."""

    def __init__(self, fabric: Fabric, parent: Process) -> None:
        self.fabric = fabric
        self.parent = parent

    async def pid(self, number: int, *, skip: int = 0) -> int:
        line = await self.parent.logged("process.started", process=f"ingress {number}", skip=skip)
        return int(line["pid"])

    async def numbers(self, metric: str) -> dict[str, float]:
        """By process. A page of one connection each: the session keeps none of them."""
        async with self.fabric.session.get(
            f"{self.fabric.url}/metrics", headers={"connection": "close"}
        ) as answer:
            page = await answer.text()
        found = re.findall(rf'^{metric}{{process="(\d)".*}} (.*)$', page, re.MULTILINE)
        totals: dict[str, float] = {}
        for process, value in found:
            totals[process] = totals.get(process, 0.0) + float(value)
        return totals

    async def streams(self, begun: list[asyncio.Event]) -> list[asyncio.Task[tuple[str, bool]]]:
        """Answers under way at both processes; `begun` gets an event of each."""
        tasks: list[asyncio.Task[tuple[str, bool]]] = []
        for each in range(SLOTS // 2):
            event = asyncio.Event()
            tasks.append(asyncio.create_task(self._stream(f"{LONG} {each}", event)))
            await asyncio.wait({asyncio.create_task(event.wait()), tasks[-1]},
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            begun.append(event)
            busy = await self.numbers("headrace_jobs_in_flight")
            if each >= 3 and all(busy.get(process, 0) >= 1 for process in ("1", "2")):
                break
        return tasks

    async def _stream(self, text: str, begun: asyncio.Event) -> tuple[str, bool]:
        try:
            status, said, done = await self.fabric.stream(ask(text), on_text=lambda _: begun.set())
        except Exception as fault:  # it was cut, in one way or another
            return f"!{type(fault).__name__}", False
        assert status == 200, said
        return said, done


@pytest.fixture
async def family(broker: Broker, tmp_path: Path) -> AsyncIterator[Family]:
    async with opened(Fabric(broker, tmp_path)) as fabric:
        parent = await fabric.ingress({"ingress.processes": 2}, tables=key(requests=3))
        await parent.logged("ingress.together", processes=2)
        await fabric.worker(SLOW, slots=SLOTS)
        for each in range(2):  # each process has heard of the model
            await parent.logged("models.changed", skip=each)
        yield Family(fabric, parent)


async def test_both_answer_at_one_port_and_have_one_page_of_metrics(family: Family) -> None:
    tasks = await family.streams([])
    assert all(done for _, done in await asyncio.gather(*tasks))
    counted = await family.numbers("headrace_requests_total")
    assert sum(counted.values()) == len(tasks)
    assert set(counted) == {"1", "2"}
    assert set(await family.numbers("process_start_time_seconds")) == {"1", "2"}


async def test_one_name_in_the_survey(family: Family) -> None:
    bus = await family.fabric.admin()
    surveyor = survey.Surveyor(bus, "")
    await surveyor.gather()
    seen = (await surveyor.look()).ingresses
    assert len({each.id for each in seen}) == 2
    assert survey.addresses(seen) == [f"{family.fabric.url} (2 processes)"]
    await bus.close()


async def test_one_is_killed_and_the_others_go_on(family: Family) -> None:
    begun: list[asyncio.Event] = []
    tasks = await family.streams(begun)
    killed = await family.pid(1)
    os.kill(killed, signal.SIGKILL)
    answers = await asyncio.gather(*tasks)
    whole = [done for _, done in answers]
    assert any(whole)
    assert not all(whole)
    again = await family.pid(1, skip=1)
    assert again != killed
    status, _, _ = await family.fabric.post(ask("still there"))
    assert status == 200
    async with asyncio.timeout(120):
        while set(await family.numbers("process_start_time_seconds")) != {"1", "2"}:
            await asyncio.sleep(0.05)


async def test_a_drain_under_load_loses_no_answer(family: Family) -> None:
    tasks = await family.streams([])
    family.parent.signal(signal.SIGTERM)
    assert all(done for _, done in await asyncio.gather(*tasks))
    assert await family.parent.ended() == 0
    assert await counts([family.parent], "ingress.ended", 2) == [2]
    await family.fabric.idle()


async def test_both_read_their_settings_anew(family: Family) -> None:
    path = family.fabric.home / f"{family.parent.name}.toml"
    path.write_text(path.read_text().replace(KEY, "sk-another-0123456789abc"))
    family.parent.signal(signal.SIGHUP)
    for each in range(2):
        await family.parent.logged("ingress.reloaded", keys=2, skip=each)
    for _ in range(8):
        status, _, _ = await family.fabric.post(ask("x"), connection="close")
        assert status == 401


async def test_a_repeated_request_is_one_wherever_it_comes_to(family: Family) -> None:
    """The same key at both processes: the engine is asked once."""
    asked = [
        family.fabric.post(ask("once"), **{"idempotency-key": "k-1", "connection": "close"})
        for _ in range(12)
    ]
    answers = await asyncio.gather(*asked)
    assert {status for status, _, _ in answers} == {200}
    assert len({body["id"] for _, body, _ in answers}) == 1
    assert await counts([family.fabric.processes[-1]], "runner.began", 1) == [1]


async def test_a_limit_holds_for_all_of_them(family: Family) -> None:
    own = {"Authorization": f"Bearer {SECRET}", "connection": "close"}
    answers = await asyncio.gather(*(family.fabric.post(ask("x"), **own) for _ in range(16)))
    assert sorted(status for status, _, _ in answers) == [200] * 3 + [429] * 13


async def test_an_account_does_not_wait_for_all_of_another(broker: Broker, tmp_path: Path) -> None:
    async with opened(Fabric(broker, tmp_path)) as fabric:
        parent = await fabric.ingress({"ingress.processes": 2}, tables=KEYS)
        await parent.logged("ingress.together")
        worker = await fabric.worker(slots=1)
        for each in range(2):
            await parent.logged("models.changed", skip=each)
        tenants = Tenants(fabric)
        asked = tenants.many("greedy", 40)
        await fabric.jobs(40)
        asked += tenants.many("polite", 1)
        await parent.logged("peers.heard", head="polite")
        worker.open_gate()
        assert await asyncio.gather(*asked) == [200] * 41
        assert (await order([parent], worker, 41)).index("polite") <= 4

"""A hostile worker beside an honest one: all that it says by the tables of the double."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas import subjects
from schemas.jetstream.words import TERM
from tests.acceptance.hostile.bystander import KEYS, unharmed
from tests.doubles.hostile.worker import CARDS, FRAMES, LONG, MODEL, HostileWorker, hostile_worker
from tests.fabric import PATIENCE, Fabric, ask
from tests.unit import fakes


async def test_whatever_a_card_says_others_are_served(
    fabric: Fabric, subtests: pytest.Subtests
) -> None:
    ingress = await fabric.ingress(tables=KEYS)
    await fabric.worker()
    await fabric.served("echo")
    async with hostile_worker(fabric.broker) as worker:
        for name, act in CARDS.items():
            with subtests.test(name):
                async with unharmed(fabric):
                    act(worker)
                    await worker.bus.flush()
                    await _listed(fabric)
    await ingress.logged("watch.undecodable_card")
    assert ingress.count("watch.undecodable_card") == 1, "once a minute of each node"


async def _listed(fabric: Fabric) -> None:
    for page in ("/v1/models", "/readyz", "/metrics"):
        async with fabric.session.get(fabric.url + page, headers=fabric.headers) as answer:
            assert answer.status == 200, await answer.text()


async def test_whatever_a_holder_says_others_are_served(
    fabric: Fabric, subtests: pytest.Subtests
) -> None:
    await fabric.ingress(tables=KEYS)
    await fabric.worker()
    await fabric.served("echo")
    async with hostile_worker(fabric.broker) as worker:
        for name, act in FRAMES.items():
            with subtests.test(name):
                async with unharmed(fabric), _job(fabric, worker):
                    act(worker)
                    await worker.bus.flush()


async def test_whatever_a_job_says_workers_go_on(fabric: Fabric, subtests: pytest.Subtests) -> None:
    """Who has an ingress' login may publish it; each worker that took one ended, one by one."""
    await fabric.ingress(tables=KEYS)
    worker = await fabric.worker()
    await fabric.served("echo")
    bus = await fabric.admin()
    for number, changed in enumerate(JOBS):
        with subtests.test(f"{changed!r:.60}"):
            async with unharmed(fabric):
                data = fakes.job(**changed).pack()
                await bus.store(subjects.jobs("echo", subjects.INTERACTIVE, "x"), {}, data)
                await worker.logged("runner.undecodable", skip=number)
    await fabric.idle()
    await bus.close()


JOBS: list[dict[str, Any]] = [
    {"ingress": LONG},
    {"id": LONG},
    {"id": "a b"},
    {"model": LONG},
    {"key": LONG},
    {"total_by": 2**63 - 1},
    {"body_size": 2**63 - 1, "body": b""},
]


@contextlib.asynccontextmanager
async def _job(fabric: Fabric, worker: HostileWorker) -> AsyncIterator[None]:
    """A job for it, whose client leaves at the end of the block."""
    worker.given.clear()
    worker.pulls.ask()
    worker.card()
    await fabric.served("bad", "echo")
    asked = asyncio.create_task(fabric.post({**ask("x"), "model": MODEL}))
    try:
        async with asyncio.timeout(PATIENCE):
            await worker.given.wait()
        yield
    finally:
        asked.cancel()
        await asyncio.wait({asked})
        worker.bus.post(worker.ack, TERM)
        await worker.bus.flush()

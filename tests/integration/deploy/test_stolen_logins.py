"""What a worker's login is denied: by the broker all that makes or changes consumers and streams,
and by an ingress the cards of others. What it is not denied is in docs/security.md."""

from __future__ import annotations

import asyncio
import json

import pytest

from deploy.survey import Surveyor
from schemas import subjects
from tests.fabric import PATIENCE, Fabric, ask
from tests.integration.deploy.roles import connected

CREATE = f"$JS.API.CONSUMER.CREATE.{subjects.JOBS_STREAM}"


@pytest.mark.parametrize(
    "verb",
    [
        f"{CREATE}.c",
        f"{CREATE}.c.jobs.echo.i4.tests",  # with a filter in the subject
        "$JS.API.CONSUMER.DURABLE.CREATE.JOBS.c",  # of old clients
        CREATE,  # without a name
        "$JS.API.CONSUMER.CREATE.USAGE.c",
        "$JS.API.CONSUMER.CREATE.DEAD.c",
        "$JS.API.CONSUMER.DELETE.JOBS.c",
        "$JS.API.CONSUMER.PAUSE.JOBS.c",
        "$JS.API.STREAM.UPDATE.JOBS",
        "$JS.API.STREAM.MSG.GET.JOBS",
        "$JS.API.STREAM.SNAPSHOT.JOBS",
        "$JS.API.DIRECT.GET.JOBS",
    ],
)
async def test_the_broker_denies_a_worker(fabric: Fabric, verb: str) -> None:
    async with connected(fabric.broker, "worker") as thief:
        await thief.client.publish(verb, b"{}")
        assert "permissions violation" in await thief.refusal()


async def test_a_card_of_another_holder_is_refused(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    heard: list[bytes] = []
    bus = await fabric.admin()
    await bus.subscribe(subjects.ALL_CARDS, lambda message: heard.append(message.data))
    while not heard:
        await bus.flush()
    await bus.close()
    forged = json.loads(heard[0])
    forged["serves"] = []
    async with connected(fabric.broker, "worker") as thief:
        await thief.client.publish("hb.box.somebody", json.dumps(forged).encode())
        await thief.settled()
    line = await ingress.logged("watch.undecodable_card")
    assert "came on 'hb.box.somebody'" in line["error"]
    assert await fabric.models() == ["echo"]


async def test_who_looks_on_sees_who_works_and_who_waits(fabric: Fabric) -> None:
    """All that `headrace status` shows, but no request."""
    await fabric.ingress()
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    tasks = [asyncio.create_task(fabric.post(ask("x", echo={"first_ms": 60_000})))]
    await worker.logged("runner.began")
    tasks.append(asyncio.create_task(fabric.post(ask("y"))))
    await fabric.jobs(2)
    bus = await fabric.connection("monitor", f"{subjects.INBOX_MONITOR}.test")
    surveyor = Surveyor(bus, "")
    await surveyor.gather()
    async with asyncio.timeout(PATIENCE):
        seen = await surveyor.look()
    await bus.close()
    (queue,) = [each for each in seen.queues if each.lane == subjects.INTERACTIVE]
    assert (queue.waiting, queue.in_flight, len(seen.cards), len(seen.ingresses)) == (1, 1, 1, 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await fabric.idle()

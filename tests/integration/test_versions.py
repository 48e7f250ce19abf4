"""Processes of version 1 of the protocol at the broker of a house that speaks version 4."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from schemas import subjects, topology
from schemas.bus import Bus
from tests.fabric import PATIENCE, Fabric, Process, ask
from tests.unit import version_1

SLOW = {"echo": {"first_ms": 1500}}


@pytest_asyncio.fixture
async def bus(fabric: Fabric) -> AsyncIterator[Bus]:
    made = await fabric.admin()
    yield made
    await made.close()


async def _consumer(bus: Bus, lane: str) -> dict[str, Any]:
    return await bus.api(f"CONSUMER.INFO.{subjects.JOBS_STREAM}.echo-{lane}")


async def _stored(bus: Bus, sequence: int) -> bytes:
    asked = {"seq": sequence}
    found = await bus.api(f"STREAM.MSG.GET.{subjects.JOBS_STREAM}", asked)
    return str(found["message"]["data"]).encode()


async def _old_consumer(bus: Bus) -> None:
    """As a worker of version 1 makes it for the model `echo`."""
    config = topology.consumer("echo", subjects.INTERACTIVE, 3.0, 1)
    config |= {"durable_name": "echo-i", "name": "echo-i", "filter_subject": "jobs.echo.i"}
    made = {"stream_name": subjects.JOBS_STREAM, "config": config}
    await bus.api(f"CONSUMER.CREATE.{subjects.JOBS_STREAM}.echo-i.jobs.echo.i", made)


async def test_a_worker_of_version_1_gets_no_jobs_and_is_named(fabric: Fabric, bus: Bus) -> None:
    ingress = await fabric.ingress()
    await _old_consumer(bus)
    got: list[bytes] = []
    await bus.subscribe(f"{bus.inbox}.old", lambda message: got.append(message.data))
    pull = {"batch": 1, "expires": 60 * topology.NS, "group": subjects.GROUP}
    asked = json.dumps(pull).encode()
    bus.post(f"$JS.API.CONSUMER.MSG.NEXT.{subjects.JOBS_STREAM}.echo-i", asked, f"{bus.inbox}.old")
    member = await fabric.connection("worker", "_W.attic.w-old")
    member.post("hb.attic.w-old", version_1.CARD)
    line = await ingress.logged("watch.refused", of="attic.w-old", node="attic", version=1)
    assert "run one release of Headrace everywhere" in line["error"]
    status, body, _ = await fabric.post({**ask("one"), "model": "old"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    await fabric.worker()
    await fabric.served("echo")
    answers = await asyncio.gather(*(fabric.post(ask("one")) for _ in range(8)))
    assert [status for status, _, _ in answers] == [200] * 8
    assert (got, (await _consumer(bus, "i"))["num_waiting"]) == ([], 1)
    await member.close()


async def test_an_ingress_of_version_1_keeps_its_jobs_and_counts_on_nobody_here(
    fabric: Fabric, bus: Bus
) -> None:
    cards: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await bus.subscribe(subjects.ALL_CARDS, lambda sent: cards.put_nowait(json.loads(sent.data)))
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    await _old_consumer(bus)
    job = version_1.job()
    kept = await bus.store("jobs.echo.i", {}, job)
    status, _, _ = await fabric.post(ask("one"))
    assert status == 200
    assert await _stored(bus, kept["seq"])
    assert (await _consumer(bus, "i"))["num_pending"] == 1, "nobody here has seen it"
    async with asyncio.timeout(PATIENCE):
        while not (card := await cards.get())["serves"]:
            pass
    assert card["models"] == [], "where it looks"


async def _lines(process: Process, event: str) -> int:
    await process.logged(event, version=1)
    return process.count(event)


async def test_a_job_of_version_1_in_our_lane_is_neither_lost_nor_offered_again_at_once(
    fabric: Fabric, bus: Bus
) -> None:
    await fabric.ingress()
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    kept = await bus.store(subjects.jobs("echo", subjects.INTERACTIVE, "acme"), {}, version_1.job())
    assert await _lines(worker, "runner.refused") == 1
    answers = [await fabric.post(ask("one")) for _ in range(5)]
    assert [status for status, _, _ in answers] == [200] * 5
    await fabric.jobs(1)  # the broker may count the last ack a moment after its answer
    assert await _stored(bus, kept["seq"])
    consumer = await _consumer(bus, "i4")
    assert consumer["num_ack_pending"] == 1, "it is put off"
    assert consumer["delivered"]["consumer_seq"] == 6, "it came once"


async def test_a_stream_whose_subjects_an_earlier_version_sets_back_is_mended(
    fabric: Fabric, bus: Bus
) -> None:
    """Versions 1 to 3 know only subjects without a tenant."""
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    name = subjects.JOBS_STREAM
    found = (await bus.api(f"STREAM.INFO.{name}"))["config"]
    assert found["subjects"] == [subjects.EARLIER_JOBS, subjects.ALL_JOBS]
    earlier = {**found, "subjects": [subjects.EARLIER_JOBS], "max_msgs_per_subject": 7}
    await bus.api(f"STREAM.UPDATE.{name}", earlier)
    status, _, _ = await fabric.post(ask("one"))
    assert status == 200
    assert (await bus.api(f"STREAM.INFO.{name}"))["config"] == found


async def test_frames_of_version_1_do_no_harm(fabric: Fabric, bus: Bus) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    asked = asyncio.create_task(fabric.post(ask("one two", **SLOW)))
    job = (await worker.logged("runner.began"))["job"]
    about = json.loads((await bus.request("$SRV.INFO.headrace-ingress")).data)["metadata"]
    member = await fabric.connection("worker", "_W.attic.w-old")
    for sent in (version_1.CLAIM, version_1.DATA):
        member.post(subjects.frames(about["ingress"], "attic.w-old", job), sent)
        member.post(subjects.frames(about["ingress"], "attic.w-old", version_1.ID), sent)
    assert await _lines(ingress, "replies.refused") == 1
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two")
    await member.close()

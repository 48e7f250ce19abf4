"""The batch lane: real broker, real processes, echo engine."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fabric import Fabric, Process, ask, counts

FLEX: dict[str, Any] = {"service_tier": "flex"}


async def _one_slot(fabric: Fabric, **settings: Any) -> tuple[Process, Process]:
    ingress = await fabric.ingress(settings)
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    return ingress, worker


async def _asks(fabric: Fabric, text: str, ms: float = 50, **more: Any) -> asyncio.Task[str]:
    """A request that is in the queue, or runs, when this returns. Its task gives the text."""
    before = await fabric.depth()
    body = ask(text, echo={"first_ms": ms}, **more)
    asked = asyncio.create_task(fabric.post(body))
    await fabric.jobs(before + 1)

    async def answered() -> str:
        status, found, _ = await asked
        assert status == 200, found
        assert found.get("service_tier") == more.get("service_tier")
        text: str = found["choices"][0]["message"]["content"]
        return text

    return asyncio.create_task(answered())


async def _order(tasks: list[asyncio.Task[str]]) -> list[str]:
    return [await task for task in asyncio.as_completed(tasks)]


async def test_batch_jobs_are_served_when_no_interactive_one_waits(fabric: Fabric) -> None:
    _, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first", ms=600)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, f"batch {n}", **FLEX) for n in range(2)]
    tasks += [await _asks(fabric, f"chat {n}") for n in range(3)]
    assert await _order(tasks) == ["first", "chat 0", "chat 1", "chat 2", "batch 0", "batch 1"]
    await fabric.idle()


async def test_idle_slots_take_batch_jobs_at_once_and_all_of_them(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker(slots=3)
    await fabric.served("echo")
    tasks = [await _asks(fabric, f"batch {n}", ms=1000, **FLEX) for n in range(3)]
    for number in range(3):
        await worker.logged("runner.began", skip=number)
    assert worker.count("runner.ended") == 0
    assert sorted(await _order(tasks)) == ["batch 0", "batch 1", "batch 2"]
    await fabric.idle()


async def test_an_interactive_job_that_meets_slots_full_of_batch_jobs_is_the_next(
    fabric: Fabric,
) -> None:
    _, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "batch 0", ms=600, **FLEX)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch 1", **FLEX), await _asks(fabric, "chat")]
    assert await _order(tasks) == ["batch 0", "chat", "batch 1"]
    await fabric.idle()


async def test_a_batch_job_waits_at_most_as_long_as_is_set(fabric: Fabric) -> None:
    """Then it has its turn among the interactive ones, by when it came."""
    ingress, worker = await _one_slot(fabric, **{"jobs.batch_patience": 0.5})
    tasks = [await _asks(fabric, "first", ms=1500)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch", **FLEX), await _asks(fabric, "chat 0")]
    await ingress.logged("job.promoted")
    tasks += [await _asks(fabric, "chat 1")]
    assert await _order(tasks) == ["first", "batch", "chat 0", "chat 1"]
    lines = [await ingress.logged("request", lane="interactive", skip=n) for n in range(4)]
    assert [line["queue_ms"] > 500 for line in lines] == [False, True, True, True]
    await fabric.idle()


async def test_a_killed_worker_costs_a_batch_job_nothing_but_time(fabric: Fabric) -> None:
    await fabric.ingress()
    workers = [await fabric.worker(slots=1)]
    await fabric.served("echo")
    task = await _asks(fabric, "batch", ms=800, **FLEX)
    await workers[0].logged("runner.began")
    workers.append(await fabric.worker(slots=1))
    await workers[0].kill()
    assert await task == "batch"
    assert await counts([workers[1]], "runner.began", 1, attempt=2) == [1]
    await fabric.idle()


async def test_a_lost_ingress_leaves_no_batch_job_behind(fabric: Fabric) -> None:
    ingress, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first", ms=5000, **FLEX)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch", **FLEX)]
    await ingress.kill()
    await fabric.idle()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_broker_that_is_killed_loses_no_batch_job(fabric: Fabric) -> None:
    _, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first", ms=500)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, f"batch {n}", **FLEX) for n in range(6)]
    tasks += [await _asks(fabric, f"chat {n}") for n in range(6)]
    await worker.logged("runner.ended", skip=1)
    await asyncio.to_thread(fabric.broker.kill)
    await asyncio.to_thread(fabric.broker.restart)
    wanted = {"first", *(f"{kind} {n}" for kind in ("batch", "chat") for n in range(6))}
    assert set(await asyncio.gather(*tasks)) == wanted
    await fabric.idle()


async def test_a_client_that_leaves_takes_its_batch_job_out_of_the_queue(fabric: Fabric) -> None:
    _, worker = await _one_slot(fabric)
    running = await _asks(fabric, "first", ms=3000)
    await worker.logged("runner.began")
    leaving = asyncio.create_task(fabric.post(ask("batch", **FLEX)))
    await fabric.jobs(2)
    leaving.cancel()
    await fabric.jobs(1)
    assert await running == "first"
    assert worker.count("runner.began") == 1
    await fabric.idle()

"""The batch lane: real broker, real processes, echo engine."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fabric import PATIENCE, Fabric, Process, ask, counts
from tests.gate import SHUT

FLEX: dict[str, Any] = {"service_tier": "flex"}


async def _one_slot(fabric: Fabric, **settings: Any) -> tuple[Process, Process]:
    ingress = await fabric.ingress(settings)
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    return ingress, worker


async def _asks(fabric: Fabric, text: str, ms: float = SHUT, **more: Any) -> asyncio.Task[str]:
    """A request that is in the queue, or runs, when this returns, if meanwhile none is promoted,
    which publishes it anew. Its task gives the text. The answers before it must be held."""
    before = await fabric.depth()
    body = ask(text, echo={"first_ms": ms}, **more)
    asked = asyncio.create_task(fabric.post(body, **{"x-request-id": text.replace(" ", "-")}))
    async with asyncio.timeout(PATIENCE):
        while await fabric.depth() <= before:
            await asyncio.sleep(0.01)

    async def answered() -> str:
        status, found, _ = await asked
        assert status == 200, found
        assert found.get("service_tier") == more.get("service_tier")
        text: str = found["choices"][0]["message"]["content"]
        return text

    return asyncio.create_task(answered())


async def _order(tasks: list[asyncio.Task[str]], ingress: Process, worker: Process) -> list[str]:
    """The texts, as the worker began with them: who is answered first is not told by who reads its
    answer first."""
    worker.open_gate()
    names = {}
    for text in await asyncio.gather(*tasks):
        line = await ingress.logged("request", id=text.replace(" ", "-"))
        names[line["job"]] = text
    await worker.logged("runner.began", skip=len(tasks) - 1)
    began = [line["job"] for line in worker.lines if line.get("event") == "runner.began"]
    return [names[job] for job in began]


async def test_batch_jobs_are_served_when_no_interactive_one_waits(fabric: Fabric) -> None:
    ingress, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first")]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, f"batch {n}", **FLEX) for n in range(2)]
    tasks += [await _asks(fabric, f"chat {n}") for n in range(3)]
    order = await _order(tasks, ingress, worker)
    assert order == ["first", "chat 0", "chat 1", "chat 2", "batch 0", "batch 1"]
    await fabric.idle()


async def test_idle_slots_take_batch_jobs_at_once_and_all_of_them(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker(slots=3)
    await fabric.served("echo")
    tasks = [await _asks(fabric, f"batch {n}", **FLEX) for n in range(3)]
    for number in range(3):
        await worker.logged("runner.began", skip=number)
    assert worker.count("runner.ended") == 0
    assert sorted(await _order(tasks, ingress, worker)) == ["batch 0", "batch 1", "batch 2"]
    await fabric.idle()


async def test_an_interactive_job_that_meets_slots_full_of_batch_jobs_is_the_next(
    fabric: Fabric,
) -> None:
    ingress, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "batch 0", **FLEX)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch 1", **FLEX), await _asks(fabric, "chat")]
    assert await _order(tasks, ingress, worker) == ["batch 0", "chat", "batch 1"]
    await fabric.idle()


async def test_a_batch_job_waits_at_most_as_long_as_is_set(fabric: Fabric) -> None:
    """Then it has its turn among the interactive ones, by when it came."""
    ingress, worker = await _one_slot(fabric, **{"jobs.batch_patience": 0.5})
    tasks = [await _asks(fabric, "first")]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch", **FLEX), await _asks(fabric, "chat 0")]
    await ingress.logged("job.promoted")
    tasks += [await _asks(fabric, "chat 1")]
    order = await _order(tasks, ingress, worker)
    # The promotion may come while they are asked, and be taken for one of them.
    assert (order[:2], sorted(order[2:])) == (["first", "batch"], ["chat 0", "chat 1"])
    assert ingress.count("request", lane="interactive") == 4
    assert (await ingress.logged("request", id="batch"))["queue_ms"] > 500
    await fabric.idle()


async def test_a_killed_worker_costs_a_batch_job_nothing_but_time(fabric: Fabric) -> None:
    await fabric.ingress()
    doomed = await fabric.worker(slots=1)
    await fabric.served("echo")
    task = await _asks(fabric, "batch", **FLEX)
    await doomed.logged("runner.began")
    other = await fabric.worker(slots=1)
    other.open_gate()
    await doomed.kill()
    assert await task == "batch"
    assert await counts([other], "runner.began", 1, attempt=2) == [1]
    await fabric.idle()


async def test_a_lost_ingress_leaves_no_batch_job_behind(fabric: Fabric) -> None:
    ingress, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first", **FLEX)]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, "batch", **FLEX)]
    await ingress.kill()
    await fabric.idle()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_broker_that_is_killed_loses_no_batch_job(fabric: Fabric) -> None:
    _, worker = await _one_slot(fabric)
    tasks = [await _asks(fabric, "first")]
    await worker.logged("runner.began")
    tasks += [await _asks(fabric, f"batch {n}", ms=50, **FLEX) for n in range(6)]
    tasks += [await _asks(fabric, f"chat {n}", ms=50) for n in range(6)]
    worker.open_gate()
    await worker.logged("runner.ended", skip=1)
    await asyncio.to_thread(fabric.broker.kill)
    await asyncio.to_thread(fabric.broker.restart)
    wanted = {"first", *(f"{kind} {n}" for kind in ("batch", "chat") for n in range(6))}
    assert set(await asyncio.gather(*tasks)) == wanted
    await fabric.idle()


async def test_a_client_that_leaves_takes_its_batch_job_out_of_the_queue(fabric: Fabric) -> None:
    _, worker = await _one_slot(fabric)
    running = await _asks(fabric, "first")
    await worker.logged("runner.began")
    leaving = asyncio.create_task(fabric.post(ask("batch", **FLEX)))
    await fabric.jobs(2)
    leaving.cancel()
    await fabric.jobs(1)
    worker.open_gate()
    assert await running == "first"
    assert worker.count("runner.began") == 1
    await fabric.idle()

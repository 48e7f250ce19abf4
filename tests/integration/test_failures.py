"""Every failure of the protocol that needs no model: real broker, real processes, echo engine."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.fabric import Fabric, ask

SLOW = {"echo": {"first_ms": 2000, "token_ms": 0}}


async def _held_by(fabric: Fabric, workers: list, task: asyncio.Task) -> int:  # type: ignore[type-arg]
    """Which worker holds the one running job."""
    del fabric, task
    async with asyncio.timeout(10):
        while True:
            for index, worker in enumerate(workers):
                if worker.count("runner.began"):
                    return index
            await asyncio.sleep(0.005)


async def test_killed_worker_before_the_first_token_costs_a_blink(fabric: Fabric) -> None:
    await fabric.ingress()
    workers = [await fabric.worker(), await fabric.worker()]
    await fabric.served("echo")
    asked = asyncio.create_task(fabric.post(ask("one two three", **SLOW)))
    victim = await _held_by(fabric, workers, asked)
    killed = time.monotonic()
    await workers[victim].kill()
    survivor = workers[1 - victim]
    await survivor.logged("runner.began")
    took = time.monotonic() - killed
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two three")
    print(f"taken over {took * 1000:.0f} ms after kill -9")
    assert took < 0.5


async def test_frozen_worker_is_replaced(fabric: Fabric) -> None:
    await fabric.ingress()
    workers = [await fabric.worker(), await fabric.worker()]
    await fabric.served("echo")
    asked = asyncio.create_task(fabric.post(ask("one two three", **SLOW)))
    victim = await _held_by(fabric, workers, asked)
    frozen = time.monotonic()
    workers[victim].signal(signal.SIGSTOP)
    await workers[1 - victim].logged("runner.began")
    took = time.monotonic() - frozen
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two three")
    print(f"taken over {took:.2f} s after SIGSTOP")
    assert took < 4


@pytest.mark.parametrize("stream", [False, True])
async def test_broker_restart_under_a_running_job(fabric: Fabric, stream: bool) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    words = " ".join(f"w{i}" for i in range(100))
    body = ask(words, echo={"token_ms": 20})
    call = fabric.stream(body) if stream else fabric.post(body)
    asked = asyncio.create_task(call)
    await worker.logged("runner.began")
    await asyncio.to_thread(fabric.broker.restart)
    answer = await asked
    text = answer[1] if stream else answer[1]["choices"][0]["message"]["content"]
    assert (answer[0], text) == (200, words)

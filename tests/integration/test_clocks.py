"""Wall clocks that are set while jobs wait and run: an hour forward or back, at any process."""

from __future__ import annotations

import asyncio

import pytest

from tests.fabric import Fabric, ask

WORDS = " ".join(f"w{number}" for number in range(40))
HOUR = 3600.0
WAITING = 4


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("who", ["ingress", "worker"])
async def test_a_step_of_a_clock_changes_nothing(fabric: Fabric, who: str, step: float) -> None:
    """The worker dies behind it: what ran there is published or delivered again, and waits."""
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1&token_ms=20")
    await fabric.served("echo")
    begun = asyncio.Event()
    stream = asyncio.create_task(fabric.stream(ask(WORDS), on_text=lambda _: begun.set()))
    await begun.wait()
    asked = [asyncio.create_task(fabric.post(ask(f"number {n}"))) for n in range(WAITING)]
    await fabric.jobs(1 + WAITING)
    stepped = ingress if who == "ingress" else worker
    stepped.step_clock(step)
    asked.append(asyncio.create_task(fabric.post(ask("asked by the new clock"))))
    await fabric.jobs(2 + WAITING)
    await worker.kill()
    other = await fabric.worker("echo://?model=echo&slots=1")
    other.step_clock(step if who == "worker" else 0.0)
    assert await stream == (200, WORDS, True)
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * (1 + WAITING)
    stepped.step_clock(0.0)
    assert (await fabric.post(ask("and back")))[0] == 200
    await fabric.idle()
    assert fabric.tracebacks() == []

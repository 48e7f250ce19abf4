"""A hedged job runs at a worker and at a provider: one answer, one charge, and the loser stops."""

from __future__ import annotations

import asyncio
import time

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.doubles.providers import OpenAI, refuse
from tests.fabric import PATIENCE, Process, ask
from tests.gate import SHUT

MODEL = "gpt-4o-mini"
GRANTED = 1_000_000


async def _open(setup: CloudSetup, sim: OpenAI, engine: str, hedge: float = 0.3) -> Process:
    setup.provider("sim", sim)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], model="echo", hedge_after=hedge)
    await setup.grant(GRANTED)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("echo")
    worker = await setup.fabric.worker(engine)
    await setup.fabric.served("echo")
    return worker


async def test_the_provider_is_first(setup: CloudSetup, sim: OpenAI) -> None:
    worker = await _open(setup, sim, "echo://?model=echo&first_ms=60000")
    began = time.monotonic()
    answer = await setup.fabric.stream(ask("#h one two", max_tokens=9))
    assert answer == (200, "#h one two", True)
    [sent] = sim.record.requests
    assert sent.at - began >= 0.3
    await worker.logged("runner.ended", outcome="dropped")
    [charge] = await setup.charges()
    assert charge.usage is not None
    await setup.settled(GRANTED - charge.usage.cost)
    await setup.fabric.idle()


async def test_the_worker_is_first_after_all(setup: CloudSetup, sim: OpenAI) -> None:
    """The provider has said nothing yet: its call is aborted, and costs what it used."""
    worker = await _open(setup, sim, f"echo://?model=echo&first_ms={SHUT}")
    sim.pace.first_s = 2 * PATIENCE
    asked = asyncio.create_task(setup.fabric.stream(ask("#w one two", max_tokens=3)))
    await sim.seen(1)
    worker.open_gate()
    assert await asked == (200, "#w one two", True)
    await sim.ended("aborted")
    await worker.logged("runner.ended", outcome="ok")

    async def nothing_is_reserved() -> bool:
        return not (await setup.balance()).reserved

    await setup.until(nothing_is_reserved)
    charges = await setup.charges()
    assert len(charges) <= 1
    spent = sum(charge.usage.cost for charge in charges if charge.usage is not None)
    await setup.settled(GRANTED - spent)
    await setup.fabric.idle()


async def test_a_quick_worker_is_not_hedged(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim, "echo://?model=echo")
    answers = await asyncio.gather(*(setup.fabric.post(ask(f"#{n} x")) for n in range(20)))
    assert {answer[0] for answer in answers} == {200}
    assert sim.record.connections == 0


async def test_what_a_provider_has_is_paid_however_long_it_takes(
    setup: CloudSetup, sim: OpenAI
) -> None:
    """Two fallbacks, and a provider that takes longer than a worker may: the second fallback gets
    no copy, whose reservation would count before the first one's. The sweep is not needed."""
    setup.provider("sim", sim, concurrency=64)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], model="echo", claim=0.1, hedge_after=0.2)
    await setup.grant(GRANTED)
    await setup.ingress()
    slow = {"fallback.slots": 32, "fallback.sweep": 60}
    await asyncio.gather(setup.fallback(slow), setup.fallback(slow))
    await setup.provided("echo")
    sim.pace.head_s = 0.8
    words = [{"x-headrace-fallback": word} for word in ("allow", "only")] * 15
    answers = await asyncio.gather(
        *(setup.fabric.post(ask(f"#p{n} x", max_tokens=9), **word) for n, word in enumerate(words))
    )
    assert {answer[0] for answer in answers} == {200}
    assert len(sim.record.requests) == 30
    charges = [charge.usage for charge in await setup.charges() if charge.usage is not None]
    costs = [round(float(answer[2]["x-headrace-cost"].split()[0]) * 1e6) for answer in answers]
    assert sorted(costs) == sorted(usage.cost for usage in charges)
    assert min(costs) > 0, "a paid answer was free"
    await setup.settled(GRANTED - sum(costs))
    await setup.fabric.idle()


async def test_a_worker_that_dies_leaves_the_job_to_the_provider(
    setup: CloudSetup, sim: OpenAI
) -> None:
    worker = await _open(setup, sim, "echo://?model=echo&first_ms=60000")
    sim.pace.may_answer.clear()
    asked = asyncio.create_task(setup.fabric.post(ask("#d one", max_tokens=9)))
    await sim.seen(1)
    await worker.kill()
    sim.pace.may_answer.set()
    status, _, headers = await asked
    assert (status, headers["x-headrace-served-by"]) == (200, "provider:sim")
    assert len(sim.record.requests) == 1
    await setup.fabric.idle()


async def test_a_worker_that_dies_and_a_provider_that_fails_leave_the_job_to_another(
    setup: CloudSetup, sim: OpenAI
) -> None:
    worker = await _open(setup, sim, "echo://?model=echo&first_ms=60000")
    sim.pace.may_answer.clear()
    sim.faults.add(refuse(500), times=-1)
    asked = asyncio.create_task(setup.fabric.post(ask("#d one", max_tokens=2)))
    await sim.seen(1)
    await worker.kill()
    await setup.fabric.worker()
    sim.pace.may_answer.set()
    status, body, headers = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "#d one")
    assert headers["x-headrace-served-by"].startswith("node:")
    await setup.settled(GRANTED)
    await setup.fabric.idle()


async def test_a_worker_that_writes_an_unstreamed_answer_is_not_hedged(
    setup: CloudSetup, sim: OpenAI
) -> None:
    """Its tokens are not sent until the last, but it says that there are some."""
    await _open(setup, sim, "echo://?model=echo&token_ms=150", hedge=0.8)
    words = " ".join(f"w{n}" for n in range(12))
    status, body, headers = await setup.fabric.post(ask(words))
    assert (status, body["choices"][0]["message"]["content"]) == (200, words)
    assert headers["x-headrace-served-by"].startswith("node:")
    assert sim.record.connections == 0

"""Fallbacks that die, and credits that run out: exact to the unit, and nobody is left hanging."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from itertools import accumulate

import pytest

from fallback.credits.entries import Entry, EntryKind
from fallback.credits.state import name_of
from tests.acceptance.cloud.cloud_setup import INPUT, OUTPUT, CloudSetup
from tests.doubles.providers import OpenAI, refuse
from tests.fabric import Process, ask, first_to_log

MODEL = "gpt-4o-mini"
GRANTED = 1_000_000


async def _open(setup: CloudSetup, sim: OpenAI, fallbacks: int, places: int = 64) -> list[Process]:
    setup.provider("sim", sim, concurrency=places)
    if "[[prices]]" not in setup.tables:
        setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"])
    await setup.ingress({"jobs.queue_depth": 5000})
    started = [setup.fallback({"fallback.slots": 64}) for _ in range(fallbacks)]
    found = list(await asyncio.gather(*started))
    await setup.provided("echo")
    return found


async def test_killed_before_its_call_the_job_is_paid_once(setup: CloudSetup, sim: OpenAI) -> None:
    """It waits for the one place at the provider, with its credits reserved."""
    [first] = await _open(setup, sim, 1, places=1)
    await setup.grant(GRANTED)
    sim.pace.may_answer.clear()
    called = asyncio.create_task(setup.fabric.post(ask("#k one two", max_tokens=9)))
    await sim.seen(1)
    reserved = asyncio.create_task(setup.fabric.post(ask("#r one two", max_tokens=9)))
    await setup.written(EntryKind.RESERVE, 2)
    await setup.fallback({"fallback.slots": 64})
    assert not sim.record.with_text("#r"), "it was called"
    await first.kill()
    sim.pace.may_answer.set()
    for name, asked in (("#k", called), ("#r", reserved)):
        status, body, _ = await asked
        assert (status, body["choices"][0]["message"]["content"]) == (200, f"{name} one two")
    assert [len(sim.record.with_text(name)) for name in ("#k", "#r")] == [2, 1]
    await setup.settled(GRANTED - 2 * (INPUT * 3 + OUTPUT * 3))
    assert len(await setup.charges()) == 2
    await setup.fabric.idle()


@pytest.mark.parametrize("step", ["called", "answered", "charged"])
async def test_killed_at_each_step_the_job_is_paid_once(
    setup: CloudSetup, sim: OpenAI, step: str
) -> None:
    both = await _open(setup, sim, 2)
    await setup.grant(GRANTED)
    sim.pace.may_answer.clear()
    asked = asyncio.create_task(setup.fabric.post(ask("#k one two", max_tokens=9)))
    victim = await first_to_log(both, "runner.began")
    await sim.seen(1)
    if step != "called":
        sim.pace.may_answer.set()
        await (sim.ended("finished") if step == "answered" else setup.written(EntryKind.CHARGE))
    await both[victim].kill()
    sim.pace.may_answer.set()
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "#k one two")
    cost = INPUT * 3 + OUTPUT * 3
    await setup.settled(GRANTED - cost)
    assert len(await setup.charges()) == 1
    await setup.fabric.idle()


async def test_killed_in_mid_stream_the_client_is_told_and_pays_nothing(
    setup: CloudSetup, sim: OpenAI
) -> None:
    both = await _open(setup, sim, 2)
    await setup.grant(GRANTED)
    sim.pace.token_s = 0.05
    got = asyncio.Event()
    words = "#m " + " ".join(f"w{n}" for n in range(100))
    asked = asyncio.create_task(
        setup.fabric.stream(ask(words, max_tokens=200), on_text=lambda _: got.set())
    )
    victim = await first_to_log(both, "runner.began")
    await got.wait()
    await both[victim].kill()
    status, text, done = await asked
    assert (status, done) == (200, False)
    assert text.endswith("!stream_interrupted")
    await setup.settled(GRANTED)
    await setup.fabric.idle()


async def test_eight_fallbacks_serve_exactly_what_is_paid_for(
    setup: CloudSetup, sim: OpenAI
) -> None:
    """1,000 jobs, credits for 600: what is read costs nothing here, so a job costs its worst case,
    two tokens."""
    setup.price("sim", MODEL, input=0, output=OUTPUT)
    await _open(setup, sim, 8)
    await setup.grant(600 * 2 * OUTPUT)
    answers = await asyncio.gather(
        *(setup.fabric.post(ask(f"#{n:05d} x", max_tokens=2)) for n in range(1000))
    )
    by = Counter((status, body.get("error", {}).get("code")) for status, body, _ in answers)
    assert by == {(200, None): 600, (402, "insufficient_credits"): 400}
    assert len(sim.record.requests) == 600
    entries = await setup.entries()
    assert min(_balances(entries)) >= 0
    assert sum(entry.change for entry in entries) == entries[-1].balance == 0
    charged = Counter(entry.job for entry in entries if entry.kind is EntryKind.CHARGE)
    assert (len(charged), set(charged.values())) == (600, {1})


def _balances(entries: list[Entry]) -> list[int]:
    """After each entry, as if nobody had reserved what there was not: that is given back at once,
    and no provider is called for it. What the ledger says of a balance is never below zero."""
    void = {name_of(entry) for entry in entries if entry.note == "overdrawn"}
    return list(accumulate(e.change for e in entries if not e.job or name_of(e) not in void))


async def test_a_frozen_fallback_that_wakes_charges_nothing(setup: CloudSetup, sim: OpenAI) -> None:
    """Its call was answered while it slept; meanwhile another served the job, and was paid."""
    both = await _open(setup, sim, 2)
    await setup.grant(GRANTED)
    sim.pace.may_answer.clear()
    asked = asyncio.create_task(setup.fabric.post(ask("#f one two", max_tokens=9)))
    victim = await first_to_log(both, "runner.began")
    await sim.seen(1)
    both[victim].signal(signal.SIGSTOP)
    sim.pace.may_answer.set()
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "#f one two")
    both[victim].signal(signal.SIGCONT)
    await both[victim].logged("runner.ended")
    await setup.settled(GRANTED - (INPUT * 3 + OUTPUT * 3))
    assert len(await setup.charges()) == 1
    assert len(sim.record.requests) == 2
    await setup.fabric.idle()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_broker_is_killed_while_a_provider_answers(
    setup: CloudSetup, sim: OpenAI, stream: bool
) -> None:
    await _open(setup, sim, 1)
    await setup.grant(GRANTED)
    sim.pace.may_answer.clear()
    body = ask("#b one two", max_tokens=9)
    work = setup.fabric.stream(body) if stream else setup.fabric.post(body)
    asked = asyncio.create_task(work)
    await sim.seen(1)
    await asyncio.to_thread(setup.fabric.broker.kill)
    sim.pace.may_answer.set()
    await sim.ended("finished")
    await asyncio.to_thread(setup.fabric.broker.restart)
    answer = await asked
    if stream:
        assert answer == (200, "#b one two", True)
    else:
        assert answer[1]["choices"][0]["message"]["content"] == "#b one two"
    await setup.settled(GRANTED - (INPUT * 3 + OUTPUT * 3))
    assert len(await setup.charges()) == 1
    assert len(sim.record.requests) == 1
    await setup.fabric.idle()


@pytest.mark.parametrize("step", [7200.0, -7200.0])
async def test_a_step_of_the_clock_costs_nobody_anything(
    setup: CloudSetup, sim: OpenAI, step: float
) -> None:
    """Before a call, and while it runs, which is then refused and made again."""
    [fallback] = await _open(setup, sim, 1)
    await setup.grant(GRANTED)
    fallback.step_clock(step)
    sim.faults.add(refuse(500))
    sim.pace.may_answer.clear()
    asked = asyncio.create_task(setup.fabric.post(ask("#k one two", max_tokens=9)))
    await sim.seen(1)
    fallback.step_clock(-step)
    sim.pace.may_answer.set()
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "#k one two")
    await setup.settled(GRANTED - (INPUT * 3 + OUTPUT * 3))
    assert len(await setup.charges()) == 1
    await setup.fabric.idle()

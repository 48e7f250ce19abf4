"""Engines that the worker starts: real broker, real processes, killed and frozen."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from typing import Any

import pytest

from schemas import nodes, subjects, topology
from schemas.bus import Bus, Message, NotFound
from schemas.nodes import Card
from tests.fabric import PATIENCE, Fabric, Process, ask

SLOW = "one two three four five six seven eight nine ten"
HASTE = {"worker.stall": 1.0}
PATIENT = {"routes.claim": 60.0}
"""A request waits for an engine that is started again, instead of a 503 after two seconds."""


def table(
    name: str, kind: str, *options: str, env: dict[str, str] | None = None, **more: Any
) -> str:
    command = [sys.executable, "-m", "tests.doubles.programs", kind, "--port", "{port}", *options]
    fields = {"name": name, "kind": kind, "command": command, **more}
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    rows += "".join(f"env.{key} = {json.dumps(value)}\n" for key, value in (env or {}).items())
    return f"[[engines]]\n{rows}"


async def pid(worker: Process, engine: str, skip: int = 0) -> int:
    """Of the program that was started for the (skip + 1)th time."""
    return int((await worker.logged("process.started", process=engine, skip=skip))["pid"])


async def ended(process: int) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    gone, _, _ = await asyncio.to_thread(select.select, [handle], [], [], PATIENCE)
    os.close(handle)
    assert gone


class Cards:
    """What workers say of their engines: each state once, as long as it lasts."""

    def __init__(self) -> None:
        self.states: dict[str, list[str]] = {}
        self.reasons: list[str] = []
        self.last: Card | None = None

    def hear(self, message: Message) -> None:
        self.last = nodes.unpack(message.data)
        for engine in self.last.engines:
            states = self.states.setdefault(engine.name, [])
            if states[-1:] != [engine.state]:
                states.append(engine.state)
            self.reasons.append(engine.reason)


async def answered(fabric: Fabric, text: str, **more: Any) -> str:
    status, body, _ = await fabric.post({**ask(text), "model": "parrot", **more})
    assert status == 200, body
    said: str = body["choices"][0]["message"]["content"]
    return said


async def test_started_from_the_config_it_serves(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.crew(table("llama", "llamacpp", env={"HF_TOKEN": "hunter2hunter2"}))
    await worker.logged("engine.ready", engine="llama")
    assert next(line["event"] for line in worker.lines if "engine" in line) == "engine.starting"
    said = f"ready: {await pid(worker, 'llama')}"
    await worker.logged("process.said", process="llama", line=said)
    await fabric.served("parrot")
    assert await answered(fabric, "hello you") == "hello you"
    assert not any("hunter2" in json.dumps(line) for line in worker.lines)


async def test_a_killed_one_is_started_again_and_its_job_is_answered(fabric: Fabric) -> None:
    await fabric.ingress(PATIENT)
    cards = Cards()
    bus = await fabric.admin()
    await bus.subscribe(subjects.ALL_CARDS, cards.hear)
    worker = await fabric.crew(table("llama", "llamacpp", "--token-s", "0.2"))
    await fabric.served("parrot")
    asked = asyncio.create_task(answered(fabric, SLOW))
    await worker.logged("runner.began")
    os.kill(await pid(worker, "llama"), signal.SIGKILL)
    await worker.logged("process.ended", process="llama", reason="killed by SIGKILL", again_in=0.5)
    assert await asked == SLOW
    await worker.logged("engine.ready", skip=1)
    await bus.close()
    states = cards.states["llama"]
    assert states[-1] == "ready"
    assert "failed" in states
    assert states.index("failed") > states.index("ready")


async def test_an_idle_one_that_dies_is_noticed_at_once(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.crew(table("llama", "llamacpp"))
    await worker.logged("engine.ready")
    os.kill(await pid(worker, "llama"), signal.SIGKILL)
    await worker.logged("engine.failed", reason="killed by SIGKILL")
    await worker.logged("engine.ready", skip=1)


async def test_a_frozen_one_is_killed_and_its_job_is_answered(fabric: Fabric) -> None:
    await fabric.ingress(PATIENT)
    worker = await fabric.crew(table("llama", "llamacpp", "--token-s", "0.2"), HASTE)
    await fabric.served("parrot")
    asked = asyncio.create_task(answered(fabric, SLOW))
    await worker.logged("runner.began")
    frozen = await pid(worker, "llama")
    os.kill(frozen, signal.SIGSTOP)
    again = await pid(worker, "llama", skip=1)
    await ended(frozen)
    assert await asked == SLOW
    assert again != frozen
    line = await worker.logged("process.ended", process="llama")
    assert "failed its check" in line["reason"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_with_its_worker(fabric: Fabric, number: int) -> None:
    await fabric.ingress()
    worker = await fabric.crew(table("a", "llamacpp") + table("b", "whisper"))
    for name in ("a", "b"):
        await worker.logged("engine.ready", engine=name)
    programs = [await pid(worker, name) for name in ("a", "b")]
    worker.signal(number)
    for program in programs:
        await ended(program)


async def _pulls(bus: Bus, consumer: str) -> int:
    try:
        return int((await bus.api(f"CONSUMER.INFO.JOBS.{consumer}"))["num_waiting"])
    except NotFound:
        return 0


async def test_several_kinds_in_one_worker_pull_for_their_own_slots(fabric: Fabric) -> None:
    await fabric.ingress()
    tables = table("llama", "llamacpp", "--slots", "3") + table(
        "ears", "whisper", models=["tiny.en"]
    )
    await fabric.crew(tables, {"worker.pull_expires": 30})
    await fabric.served("parrot", "tiny.en")
    await fabric.slots("parrot", 3)
    await fabric.slots("tiny.en", 1)
    bus = await fabric.admin()
    try:
        for model in ("parrot", "tiny.en"):
            name = topology.consumer(model, subjects.INTERACTIVE, 3.0, 1)["durable_name"]
            # An ingress makes it, and the worker pulls when it finds it.
            async with asyncio.timeout(PATIENCE):
                while await _pulls(bus, name) != 1:  # one for all slots
                    await asyncio.sleep(0.01)
    finally:
        await bus.close()


async def test_one_that_cannot_start_says_why_and_holds_up_nothing(fabric: Fabric) -> None:
    await fabric.ingress()
    lost = '[[engines]]\nname = "lost"\ncommand = ["no-such-server", "{port}"]\n'
    worker = await fabric.crew(lost + table("llama", "llamacpp", "--late", "1"))
    why = "no-such-server cannot be started: it is not in PATH"
    await worker.logged("engine.failed", engine="lost", reason=why)
    await fabric.served("parrot")
    assert await answered(fabric, "hello") == "hello"
    await worker.logged("process.ended", process="lost", again_in=2.0)

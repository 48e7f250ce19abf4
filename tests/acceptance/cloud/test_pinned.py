"""What is for one node goes to a provider only if it says so itself."""

from __future__ import annotations

import asyncio

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.doubles.providers import OpenAI
from tests.fabric import ask
from tests.gate import SHUT

MODEL = "gpt-4o-mini"
BOX, ALLOW = {"X-Headrace-Node": "box"}, {"X-Headrace-Fallback": "allow"}


async def test_a_pinned_request_stays_unless_it_may_leave(setup: CloudSetup, sim: OpenAI) -> None:
    setup.provider("sim", sim)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], model="echo", claim=0.5)
    await setup.grant(100_000_000)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("echo")
    worker = await setup.fabric.worker(
        f"echo://?model=echo&slots=1&first_ms={SHUT}", {"worker.node": "box"}
    )
    await setup.fabric.served("echo")

    async def served(**headers: str) -> str:
        status, body, told = await setup.fabric.post(ask("hello", max_tokens=2), **headers)
        return str(told["x-headrace-served-by"] if status == 200 else body["error"]["code"])

    busy = asyncio.create_task(served(**BOX))
    await worker.logged("runner.began")
    waits = asyncio.create_task(served(**BOX))
    assert await served(**BOX, **ALLOW) == "provider:sim"
    worker.open_gate()
    assert (await busy, await waits) == ("node:box", "node:box")
    assert await served(**BOX, **{"X-Headrace-Fallback": "only"}) == "invalid_request"
    await worker.kill()
    await setup.fabric.processes[0].logged("worker.lost")
    assert await served(**BOX) == "no_worker"
    assert await served(**BOX, **ALLOW) == "provider:sim"

"""A hostile engine behind a worker of its own: all that it answers by the table of the double."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.hostile.bystander import BOOKS, KEYS, unharmed
from tests.doubles.hostile.server import ACTS, MODEL, HostileServer, hostile_server
from tests.fabric import PATIENCE, Fabric, ask, read_until


async def test_whatever_an_engine_answers_others_are_served(
    fabric: Fabric, subtests: pytest.Subtests
) -> None:
    await fabric.ingress({"jobs.max_attempts": 1}, tables=KEYS)
    await fabric.worker()
    async with hostile_server() as engine:
        await fabric.worker(engine.url, kind="openai")
        for name, act in ACTS.items():
            for stream in (False, True):
                with subtests.test(f"{name}, streamed: {stream}"):
                    await fabric.served(MODEL, "echo")
                    async with unharmed(fabric):
                        engine.act = act
                        await _ends(fabric, stream)
    books = await _usage(fabric)
    assert all(0 <= row["prompt"] < 2**40 for row in books["data"]), books


ALL_AT_ONCE = ("a document of 16 MiB of brackets", "an event of 16 MiB of brackets")
"""What took its worker 3 s, when it was read in one go."""


@pytest.mark.parametrize("name", ALL_AT_ONCE)
async def test_other_engines_of_its_worker_go_on_meanwhile(fabric: Fabric, name: str) -> None:
    await fabric.ingress({"jobs.max_attempts": 1}, tables=KEYS)
    async with hostile_server() as engine:
        engine.act = ACTS[name]
        echo = '[[engines]]\nname = "echo"\nkind = "echo"\nurl = "echo://?model=echo"\n'
        await fabric.crew(echo + _table(engine))
        await fabric.served(MODEL, "echo")
        async with unharmed(fabric) as bystander:
            reading = asyncio.create_task(_ends(fabric, name.startswith("an event")))
            while not reading.done():
                await bystander.answered()
            await reading


async def _ends(fabric: Fabric, stream: bool) -> None:
    """Its client gets one answer, and no long text."""
    async with (
        asyncio.timeout(PATIENCE),
        fabric.session.post(
            fabric.url + "/v1/chat/completions",
            json={**ask("x", stream=stream), "model": MODEL},
            headers=fabric.headers,
        ) as answer,
    ):
        assert len(await answer.read()) < 2**17
        assert answer.status in (200, 400, 502), await answer.text()


async def _usage(fabric: Fabric) -> dict[str, list[dict[str, int]]]:
    url = f"{fabric.url}/v1/usage?by=node"
    async with fabric.session.get(url, headers={"Authorization": f"Bearer {BOOKS}"}) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, list[dict[str, int]]] = await answer.json()
        return found


SETTLED = ("engine.ready", "engine.failed")
NAMES: dict[str, list[object]] = {
    "a name of 3,900 letters": ["m" * 3900],
    "a name whose letters take twelve each": ["\U0001f600" * 500],
    "no name": [""],
    "7,000 names": [f"m{at}" for at in range(7000)],
    "a name that is none": [{"a": 1}],
}


@pytest.mark.parametrize("name", NAMES)
async def test_whatever_models_an_engine_lists_others_are_served(fabric: Fabric, name: str) -> None:
    await fabric.ingress(tables=KEYS)
    await fabric.worker()
    await fabric.served("echo")
    async with hostile_server() as engine:
        engine.listed = NAMES[name]
        worker = await fabric.crew(_table(engine))
        async with unharmed(fabric):
            await read_until(lambda: any(map(worker.count, SETTLED)), [worker])
        assert len(await fabric.models()) <= 257
        # Another engine still finds room for its consumer.
        await fabric.worker("echo://?model=late")


def _table(engine: HostileServer) -> str:
    return f'[[engines]]\nname = "bad"\nkind = "openai"\nurl = "{engine.url}"\n'

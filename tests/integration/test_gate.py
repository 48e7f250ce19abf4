"""The gate that tests hold echo engines at."""

from __future__ import annotations

import asyncio

from tests.fabric import Fabric, ask
from tests.gate import SHUT


async def test_an_answer_waits_until_its_gate_is_opened(fabric: Fabric) -> None:
    """Also one that comes after that, and others' gates are their own."""
    await fabric.ingress()
    worker, other = [await fabric.worker(slots=1, models=[name]) for name in ("a", "b")]
    await fabric.served("a", "b")
    held = {"first_ms": SHUT}
    at_a, at_b = [
        asyncio.create_task(fabric.post({**ask("held", echo=held), "model": name}))
        for name in ("a", "b")
    ]
    for each in (worker, other):
        await each.logged("runner.began")
    worker.open_gate()
    assert (await at_a)[0] == 200
    assert (await fabric.post({**ask("held", echo=held), "model": "a"}))[0] == 200
    assert other.count("runner.ended") == 0
    other.open_gate()
    assert (await at_b)[0] == 200


async def test_so_many_words_pass_as_are_let_through(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    got: asyncio.Queue[str] = asyncio.Queue()
    body = ask("a b c d", echo={"token_ms": SHUT})
    stream = asyncio.create_task(fabric.stream(body, on_text=got.put_nowait))
    worker.open_gate(2)
    assert [await got.get() for _ in range(2)] == ["a", " b"]
    assert (await fabric.post(ask("beside")))[0] == 200
    assert got.empty()
    worker.open_gate()
    assert await stream == (200, "a b c d", True)


async def test_what_was_logged_before_is_read(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    for number in range(1, 6):
        assert (await fabric.post(ask("x")))[0] == 200
        await worker.caught_up()
        assert worker.count("runner.began") == number
    await worker.kill()
    await worker.caught_up()

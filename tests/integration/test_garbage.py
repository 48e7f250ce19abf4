"""Garbage on every subject that a worker may write to: whoever has a worker's login can do that."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import orjson

from schemas import subjects
from schemas.bus import Message
from schemas.frames import VERSION
from tests.fabric import Fabric, ask

WORDS = " ".join(f"w{number}" for number in range(100))


BODIES: list[Any] = [None, -1, "x", b"x", [], {}, ["worker", "h", "n", "e", "$JS.API.INFO", 0]]
CARDS: list[Any] = [[], {}, 5, None, "x", {"engines": 1, "serves": {}, "fields": [[]]}]


def garbage(seed: int) -> list[bytes]:
    """Bytes of no sense, and messages that look right up to their fields."""
    dice = random.Random(seed)
    found = [dice.randbytes(dice.randrange(200)) for _ in range(100)]
    for kind in range(8):
        for body in BODIES:
            found.append(msgpack.packb((VERSION, kind, 1, dice.getrandbits(56), 0, body)))
    return [*found, *map(orjson.dumps, CARDS)]


async def test_garbage_from_a_worker_harms_nobody(fabric: Fabric) -> None:
    """Every subject gets some of it, also those of a stream that runs, which is not disturbed."""
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&token_ms=20")
    await fabric.served("echo")
    watcher = await fabric.connection("ingress", "_I.test")
    bad = await fabric.connection("worker", "_W.test.w")
    heard = asyncio.Queue[Message]()
    await watcher.subscribe(subjects.ALL_FRAMES, heard.put_nowait)
    await watcher.flush()
    asked = asyncio.create_task(fabric.stream(ask(WORDS)))
    frames = (await heard.get()).subject
    consumer = subjects.consumer("echo", subjects.INTERACTIVE)
    for number, subject in enumerate(
        [
            frames,
            f"{frames}-0",
            f"{frames[:-32]}{'0' * 32}",
            frames.replace("r.", "b.", 1),
            subjects.card("box.stranger"),
            f"$JS.ACK.JOBS.{consumer}.1.1.1.1.0",
            f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{consumer}",
            f"$JS.API.CONSUMER.CREATE.JOBS.{consumer}",
        ]
    ):
        for data in garbage(number):
            bad.post(subject, data, f"{bad.inbox}.x")
    await bad.flush()
    assert await asked == (200, WORDS, True)
    assert (await fabric.post(ask("still here")))[0] == 200
    assert await fabric.models() == ["echo"]
    await fabric.idle()
    await watcher.close()
    await bad.close()
    assert [(await each.stop(), each.noise) for each in (worker, ingress)] == [(0, []), (0, [])]

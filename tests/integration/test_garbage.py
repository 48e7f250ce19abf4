"""Garbage on every subject that a worker may write to: whoever has a worker's login can do that."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import orjson
from pydantic import SecretStr

from schemas import bus as buses
from schemas import subjects
from schemas.bus import Bus, Message
from schemas.frames import VERSION
from schemas.settings import Nats
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


async def stranger(fabric: Fabric) -> Bus:
    """A connection with a worker's login."""
    user, password = fabric.broker.users["worker"]
    login = Nats(url=fabric.broker.url, user=user, password=SecretStr(password))
    return await buses.connect(login, "test", f"{subjects.INBOX_WORKER}.test")


async def test_garbage_from_a_worker_harms_nobody(fabric: Fabric) -> None:
    """Every subject gets some of it, also those of a stream that runs, which is not disturbed."""
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&token_ms=20")
    await fabric.served("echo")
    watcher, bad = await fabric.admin(), await stranger(fabric)
    heard = asyncio.Queue[Message]()
    await watcher.subscribe("r.*.*", heard.put_nowait)
    await watcher.flush()
    asked = asyncio.create_task(fabric.stream(ask(WORDS)))
    frames = (await heard.get()).subject.partition("-")[0]
    consumer = subjects.consumer("echo", subjects.INTERACTIVE)
    for number, subject in enumerate(
        [
            frames,
            f"{frames}-0",
            f"{frames[:-32]}{'0' * 32}",
            frames.replace("r.", "b.", 1),
            subjects.card("stranger"),
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

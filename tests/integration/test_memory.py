"""Memory comes back: what was answered, refused, or asked by a client that left, keeps nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.hostile.bystander import memory
from tests.doubles.hostile.client import head_of
from tests.fabric import KEY, Fabric, ask

REQUESTS, AT_ONCE = 500, 10
LARGE = 96 * 1024
"""Bytes of a body: 500 of them that stay are half of what the process has."""
ROOM = 1.1
Send = Callable[[Fabric, bytes], Awaitable[int]]


async def _whole(fabric: Fabric, body: bytes, **headers: str) -> int:
    headers = {**fabric.headers, "content-type": "application/json", **headers}
    url = f"{fabric.url}/v1/chat/completions"
    async with fabric.session.post(url, data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _repeatable(fabric: Fabric, body: bytes) -> int:
    return await _whole(fabric, body, **{"Idempotency-Key": os.urandom(8).hex()})


async def _leaving(fabric: Fabric, body: bytes) -> int:
    """Ask, and leave as soon as all is said."""
    where = urlsplit(fabric.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(head_of(KEY, len(body)) + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    return 499


ENDINGS: dict[str, tuple[Send, dict[str, Any], int]] = {
    "served": (_whole, {"max_tokens": 1}, 200),
    "streamed": (_whole, {"max_tokens": 1, "stream": True}, 200),
    "kept for a repetition": (_repeatable, {"max_tokens": 1}, 200),
    "not checked": (_whole, {"temperature": 99}, 400),
    "no credits": (_whole, {"echo": {"fault": "402"}}, 402),
    "no such model": (_whole, {"model": "none"}, 404),
    "refused by the engine": (_whole, {"echo": {"fault": "422"}}, 422),
    "failed": (_whole, {"echo": {"fault": "500"}}, 502),
    "late": (_whole, {"model": "late", "echo": {"first_ms": 60_000}}, 504),
    "left": (_leaving, {"echo": {"first_ms": 60_000}}, 499),
    "full": (_whole, {"model": "full"}, 429),
}


async def _growth(fabric: Fabric, ending: str, pid: int) -> float:
    before = memory(pid)
    await _many(fabric, ending, REQUESTS)
    return memory(pid) / before


async def test_what_500_large_requests_of_each_ending_took_is_given_back(fabric: Fabric) -> None:
    fabric.fresh = True
    late = '[[route]]\nname = "late"\nmodel = "echo"\ntotal = 0.05\n'
    ingress = await fabric.ingress({"log.level": "info", "jobs.queue_depth": 20}, tables=late)
    await fabric.worker("echo://?model=echo&slots=16", {"log.level": "info"})
    await fabric.worker("echo://?model=full&slots=1&first_ms=600000", {"log.level": "info"})
    await fabric.served("echo", "full")
    held = [asyncio.create_task(fabric.post(ask("x", model="full"))) for _ in range(20)]
    await fabric.jobs(20)
    grown = dict[str, float]()
    for ending in ENDINGS:
        await _many(fabric, ending, REQUESTS // 10)  # what every process needs once
        growths = [await _growth(fabric, ending, ingress.pid)]
        if growths[0] > ROOM:  # what is lost is lost each time; pools and arenas grow once
            growths.append(await _growth(fabric, ending, ingress.pid))
        if min(growths) > ROOM:
            grown[ending] = min(growths)
    for task in held:
        task.cancel()
    assert not grown, grown


async def _many(fabric: Fabric, ending: str, times: int) -> None:
    send, said, status = ENDINGS[ending]
    body = json.dumps(ask("x" * LARGE, **said)).encode()

    async def some() -> None:
        for _ in range(times // AT_ONCE):
            assert await send(fabric, body) == status

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())

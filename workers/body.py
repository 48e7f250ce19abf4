"""Fetches a request body that is too large for the job's message from the ingress, in pieces."""

from __future__ import annotations

import asyncio

import orjson

from schemas import subjects
from schemas.api.piecewise_write import joined
from schemas.bus import Bus, BusError
from schemas.jobs import Job
from workers.engines.base import EngineFault

PIECE = 256 * 1024
"""Bytes in one piece. The broker takes messages of 2 MB, but small ones do not block it."""
_AHEAD = 4
"""Pieces that are asked for at the same time."""
_TRIES = 3


async def fetch(bus: Bus, holder: str, job: Job) -> bytes:
    """The whole body, `job.body_size` bytes. Raises EngineFault if the ingress does not answer."""
    subject = subjects.body(job.ingress, holder, job.id)
    gate = asyncio.Semaphore(_AHEAD)

    async def piece(at: int) -> bytes:
        async with gate:
            return await _ask(bus, subject, at, min(PIECE, job.body_size - at))

    return await joined(await asyncio.gather(*map(piece, range(0, job.body_size, PIECE))))


async def _ask(bus: Bus, subject: str, at: int, size: int) -> bytes:
    question = orjson.dumps([at, size])
    for _ in range(_TRIES):
        try:
            answer = await bus.request(subject, question)
        except BusError:
            continue
        if len(answer.data) == size:
            return bytes(answer.data)
    raise EngineFault("the ingress did not hand over the request body")

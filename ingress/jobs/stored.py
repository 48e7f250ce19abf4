"""Looks for the message of a job that nobody has."""

from __future__ import annotations

from base64 import b64decode

from schemas import subjects
from schemas.bus import ApiError, Bus
from schemas.jetstream import streams
from schemas.jobs import Job


async def is_stored(bus: Bus, job: str, sequence: int) -> bool:
    """Whether the message of `job` is there. A broker that lost the end of a stream gives its
    numbers anew, so there may be another one in its place. Raises BusError."""
    try:
        found = await streams.stored(bus, subjects.JOBS_STREAM, seq=sequence)
    except ApiError:
        return False
    return job.encode() in b64decode(found.get("hdrs", ""))


async def is_passed(bus: Bus, job: Job, sequence: int) -> bool:
    """Whether the job's consumer gave it to somebody, or counts it as given: an ack of the job
    that had its number before does that. Raises BusError."""
    name = subjects.consumer(job.model, job.lane)
    for found in await streams.consumers(bus, subjects.JOBS_STREAM):
        if found["name"] == name:
            return int(found["delivered"]["stream_seq"]) >= sequence
    return False

"""What waits and runs in the queues, as the broker counts. Each function raises BusError if the
broker does not answer."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from schemas import subjects
from schemas.bus import Bus, BusDenied, NotFound
from schemas.jetstream import streams
from schemas.jetstream.words import seconds
from schemas.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Queue:
    """One model and lane. `depth` = `waiting` + `in_flight`, as the broker counts jobs; `oldest`:
    seconds that the first waiting job has waited, None if no job waits; `retried`: jobs in flight
    that were delivered before; `served`: whether a consumer is there."""

    model: str
    lane: str
    depth: int
    waiting: int
    in_flight: int
    oldest: float | None
    retried: int
    served: bool


def counted(queues: Iterable[Queue], rows: Iterable[Waiting]) -> Iterator[Queue]:
    """The queues, corrected by what ingresses know of them: a job that a worker handed back, as its
    slot was taken meanwhile, waits, but the broker counts it as given out."""
    known = defaultdict[tuple[str, str], list[Waiting]](list)
    for row in rows:
        known[row.model, row.lane].append(row)
    for queue in queues:
        own = known[queue.model, queue.lane]
        waiting = max(queue.waiting, min(queue.depth, sum(row.waiting for row in own)))
        oldest = max((row.oldest for row in own), default=0.0)
        oldest = max(oldest, queue.oldest or 0.0)
        in_flight = max(0, queue.depth - waiting)
        yield replace(
            queue, waiting=waiting, in_flight=in_flight, oldest=oldest if waiting else None
        )


async def read(bus: Bus) -> list[Queue]:
    """Every model and lane that has jobs or a consumer. Raises BusError."""
    jobs, now = await counts(bus, subjects.JOBS_STREAM, subjects.EVERY_JOB)
    depths = Counter[str]()
    for subject, count in jobs.items():
        depths[subjects.of_all_tenants(subject)] += count
    found = []
    for info in await consumers(bus):
        subject = str(info["config"].get("filter_subject", ""))
        if subject.count(".") in (2, 3):  # other consumers are not Headrace's
            found.append(await _queue(bus, subject, info, depths.pop(subject, 0), now))
    for subject, depth in depths.items():  # there is no consumer: nobody serves the model
        model, lane, _ = subjects.parse_jobs(subject)
        oldest = await _age(bus, subject, 1, now)
        found.append(Queue(model, lane, depth, depth, 0, oldest, 0, False))
    return sorted(found, key=lambda queue: (queue.model, queue.lane))


async def _queue(bus: Bus, subject: str, info: dict[str, Any], depth: int, now: float) -> Queue:
    """A queue that has a consumer."""
    model, lane, _ = subjects.parse_jobs(subject)
    waiting = info.get("num_pending", 0)
    # Jobs are delivered in order: the first waiting job is the next after the last delivered one.
    oldest = await _age(bus, subject, info["delivered"]["stream_seq"] + 1, now) if waiting else None
    return Queue(
        (info["config"].get("metadata") or {}).get("headrace.model") or model,
        lane,
        depth,
        waiting,
        info.get("num_ack_pending", 0),
        oldest,
        info.get("num_redelivered", 0),
        served=True,
    )


async def consumers(bus: Bus) -> list[dict[str, Any]]:
    """What the broker says of each consumer of the jobs; none without a stream."""
    try:
        return await streams.consumers(bus, subjects.JOBS_STREAM)
    except NotFound:
        return []


async def counts(bus: Bus, stream: str, wanted: str) -> tuple[dict[str, int], float]:
    """Messages by subject, and the broker's time; none without a stream."""
    try:
        return await streams.counts(bus, stream, wanted)
    except NotFound:
        return {}, time.time()


async def _age(bus: Bus, subject: str, since: int, now: float) -> float | None:
    """Seconds since the first job of `subject` at or behind the place `since` in the stream."""
    try:
        found = await streams.stored(bus, subjects.JOBS_STREAM, seq=since, next_by_subj=subject)
    except (NotFound, BusDenied):  # who looks on may not read jobs; ingresses tell it, too
        return None
    return max(0.0, now - seconds(found["time"]))

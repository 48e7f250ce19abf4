"""One log line and the metrics of each request. Prompts and answers are never logged."""

from __future__ import annotations

import time
from functools import cache
from itertools import count
from typing import Any

import structlog

from ingress.jobs.ended import Ended
from ingress.jobs.state import Times
from ingress.jobs.ticket import Ticket
from schemas import metrics, subjects
from schemas.frames import COST, COST_LIMIT, NOTED, SERVED_BY, End

log = structlog.get_logger("request")


class _Meters:
    """The metrics of one model and kind of lane, looked up once: `labels` costs 3 µs a call."""

    def __init__(self, model: str, lane: str) -> None:
        self.duration = metrics.DURATION.labels(model)
        self.wait = metrics.QUEUE_WAIT.labels(model, lane)
        self.ttft = metrics.TTFT.labels(model)
        self.each = metrics.INTER_TOKEN.labels(model)
        self.takeovers = metrics.TAKEOVERS.labels(model)
        self.prompt = metrics.TOKENS.labels(model, "prompt")
        self.cached = metrics.CACHED_TOKENS.labels(model)
        self.completion = metrics.TOKENS.labels(model, "completion")


_meters = cache(_Meters)
_requests = cache(metrics.REQUESTS.labels)
_served = cache(metrics.SERVED.labels)
_numbers = count(1)


def record(ticket: Ticket, name: str, status: int, request_id: str) -> Ended:
    """Log how a request ended, and count it. `name`: the model as the client named it. Returns what
    is kept of it."""
    now = time.monotonic()
    job, times, received = ticket.job, ticket.times, ticket.received
    end, error = received.ended, received.error
    lane = subjects.lane_kind(ticket.lane)
    _measure(ticket, lane, status, now)
    line: dict[str, Any] = {
        "id": request_id,
        "job": job.id,
        "key": job.key,
        "asked": name,
        "model": job.model,
        "lane": lane,
        "endpoint": job.endpoint,
        "stream": job.stream,
        "status": status,
        "attempts": ticket.tries,
        "ms": _ms(now - times.queued),
    }
    if times.claimed:
        line["queue_ms"] = _ms(times.claimed - times.queued)
        line["node"] = ticket.node or ""
    for note in (SERVED_BY, COST, COST_LIMIT):
        if note in received.notes:
            line[note.removeprefix(NOTED).replace("-", "_")] = received.notes[note]
    if times.first:
        line["ttft_ms"] = _ms(times.first - times.queued)
    if end is not None:
        line |= _tokens(end)
    if error is not None:
        line["error"] = error.code
        line["why"] = error.message
    log.info("request", **line)
    kept = job.account, job.arrived, line, times, ticket.custody.lost, who(ticket), now
    return Ended(next(_numbers), *kept)


def record_kept(line: dict[str, Any], account: str, began: float) -> Ended:
    """Log a request that nobody worked for, as its answer was kept, or was made for another one.
    `line`: what the log says, but the time that it took since `began`, in monotonic seconds.
    Returns what is kept of it."""
    now = time.monotonic()
    took = now - began
    line["ms"] = _ms(took)
    log.info("request", **line)
    known = {**line, "job": line["id"], "attempts": 0, "served_by": "cache"}
    arrived = int((time.time() - took) * 1000)
    times = Times(queued=began, posted=began, freed=began)
    return Ended(next(_numbers), account, arrived, known, times, [], "", now)


def _tokens(end: End) -> dict[str, int]:
    """What the engine counted; -1 is what it did not."""
    found = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
    if end.cached_tokens > 0:
        found["cached_tokens"] = end.cached_tokens
    return {name: number for name, number in found.items() if number >= 0}


def _measure(ticket: Ticket, lane: str, status: int, now: float) -> None:
    job, times, end = ticket.job, ticket.times, ticket.received.ended
    model = metrics.model_label(job.model)
    meters = _meters(model, lane)
    _requests(job.endpoint, model, str(status)).inc()
    meters.duration.observe(now - times.queued)
    if times.claimed:
        meters.wait.observe(times.claimed - times.queued)
    if times.first:
        meters.ttft.observe(times.first - times.queued)
    if end is not None:
        meters.prompt.inc(max(0, end.prompt_tokens))
        meters.completion.inc(max(0, end.completion_tokens))
        if end.cached_tokens > 0:
            meters.cached.inc(end.cached_tokens)
        # Of a stream that was continued, not all tokens need be in this number.
        if job.stream and times.first and end.completion_tokens > 1 and not ticket.custody.lost:
            meters.each.observe((now - times.first) / (end.completion_tokens - 1))
    _count_holders(ticket, meters)


def _count_holders(ticket: Ticket, meters: _Meters) -> None:
    holder, lost = ticket.holder, len(ticket.custody.lost)
    if lost:
        meters.takeovers.inc(lost - (holder is None))
    if holder is not None and not holder.claim.by_provider:
        _served(metrics.node_label(holder.claim.node)).inc()


def who(ticket: Ticket) -> str:
    """Who has the job, or had it at its end; empty while it waits."""
    if ticket.holder is None:
        return ""
    node = ticket.node
    return ticket.received.notes.get(SERVED_BY, "provider") if node is None else f"node:{node}"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)

"""One log line and the metrics of each request. Prompts and answers are never logged."""

from __future__ import annotations

import time
from functools import cache
from itertools import count
from typing import Any

import structlog

from ingress.jobs.state import Ended
from ingress.jobs.ticket import Ticket
from schemas import metrics, subjects
from schemas.frames import COST, COST_LIMIT, NOTED, SERVED_BY

log = structlog.get_logger("request")


class _Meters:
    """The metrics of one model and kind of lane, looked up once: `labels` costs 3 µs a call."""

    def __init__(self, model: str, lane: str) -> None:
        self.duration = metrics.DURATION.labels(model)
        self.wait = metrics.QUEUE_WAIT.labels(model, lane)
        self.ttft = metrics.TTFT.labels(model)
        self.prompt = metrics.TOKENS.labels(model, "prompt")
        self.cached = metrics.CACHED_TOKENS.labels(model)
        self.completion = metrics.TOKENS.labels(model, "completion")


_meters = cache(_Meters)
_requests = cache(metrics.REQUESTS.labels)
_numbers = count(1)


def record(ticket: Ticket, name: str, status: int, request_id: str) -> Ended:
    """Log how a request ended, and count it. `name`: the model as the client named it. Returns what
    is kept of it."""
    now = time.monotonic()
    job, times, received = ticket.job, ticket.times, ticket.received
    end, error = received.ended, received.error
    lane = subjects.lane_kind(ticket.lane)
    meters = _meters(job.model, lane)
    _requests(job.endpoint, job.model, str(status)).inc()
    meters.duration.observe(now - times.queued)
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
        meters.wait.observe(times.claimed - times.queued)
        line["queue_ms"] = _ms(times.claimed - times.queued)
        line["node"] = ticket.node or ""
    for note in (SERVED_BY, COST, COST_LIMIT):
        if note in received.notes:
            line[note.removeprefix(NOTED).replace("-", "_")] = received.notes[note]
    if times.first:
        meters.ttft.observe(times.first - times.queued)
        line["ttft_ms"] = _ms(times.first - times.queued)
    if end is not None and end.prompt_tokens >= 0:
        meters.prompt.inc(end.prompt_tokens)
        line["prompt_tokens"] = end.prompt_tokens
    if end is not None and end.cached_tokens > 0:
        meters.cached.inc(end.cached_tokens)
        line["cached_tokens"] = end.cached_tokens
    if end is not None and end.completion_tokens >= 0:
        meters.completion.inc(end.completion_tokens)
        line["completion_tokens"] = end.completion_tokens
    if error is not None:
        line["error"] = error.code
        line["why"] = error.message
    log.info("request", **line)
    kept = job.account, job.arrived, line, times, ticket.custody.lost, who(ticket), now
    return Ended(next(_numbers), *kept)


def who(ticket: Ticket) -> str:
    """Who has the job, or had it at its end; empty while it waits."""
    if ticket.holder is None:
        return ""
    node = ticket.node
    return ticket.received.notes.get(SERVED_BY, "provider") if node is None else f"node:{node}"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)

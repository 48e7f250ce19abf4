"""Joins the heads of several jobs into one, and writes as comments what is too late for a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from starlette.responses import Response

from ingress.jobs.line import Place
from ingress.jobs.ticket import Ticket
from schemas.api import sse
from schemas.frames import COST, COST_LIMIT, SERVED_BY

WARNING = "x-headrace-warning"
ERROR_SOURCE = "x-headrace-error-source"
"""The header of `schemas.errors.HeadraceError`, here for refusals from outside the fabric."""

QUEUE_WAIT = "x-headrace-queue-wait"
"""Seconds that a request was in the queue."""
CACHED_TOKENS = "x-headrace-cached-tokens"
"""Tokens of the prompt that the engine did not read anew."""
QUEUE_POSITION = "x-headrace-queue-position"
"""The place at which a request was queued; 1: none was before it."""


def warn(response: Response, text: str) -> None:
    """Say `text` in the warning header, behind what it says already."""
    before = response.headers.get(WARNING)
    response.headers[WARNING] = f"{before}; {text}" if before else text


def queued(place: Place, now: float) -> bytes:
    """A comment for a stream that waits."""
    eta = place.eta(now)
    when = "" if eta is None else f" eta={max(1, round(eta))}s"
    return sse.comment(f"queued position={place.position}{when}")


def source(ticket: Ticket) -> str:
    """Who refused a request: a provider, by its name, or "engine"."""
    by = ticket.received.served_by(ticket.node).get(SERVED_BY, "")
    return by if by.startswith("provider:") else "engine"


def joined(heads: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One head from those of several answers: each name once, and the sum of their costs."""
    found: dict[str, list[str]] = {}
    for head in heads:
        for name in (SERVED_BY, COST, COST_LIMIT):
            if name in head:
                found.setdefault(name, []).append(head[name])
    return {name: _joined(name, values) for name, values in found.items()}


def comments(headers: Mapping[str, str]) -> bytes:
    """`headers` as comments of an event stream, as its head is sent already."""
    return b"".join(sse.comment(f"{name} {value}") for name, value in headers.items())


def _joined(name: str, values: Sequence[str]) -> str:
    if name not in (COST, COST_LIMIT):
        return ", ".join(dict.fromkeys(values))
    amounts = [value.partition(" ") for value in values]  # "0.000012 USD", or "0" of a node
    units = [unit for _, _, unit in amounts if unit]
    total = sum((Decimal(amount) for amount, _, _ in amounts), Decimal())
    return f"{total} {units[0]}" if units else f"{total}"

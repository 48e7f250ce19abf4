"""What several jobs say in the head of their one answer, and what is said too late for a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from ingress.jobs.ticket import Ticket
from schemas.api import sse
from schemas.frames import COST, COST_LIMIT, SERVED_BY

ERROR_SOURCE = "x-headrace-error-source"
"""As `schemas.errors.HeadraceError` has it, of refusals that did not come from the fabric."""


def source(ticket: Ticket) -> str:
    """Who refused a request: the provider by its name, or an engine."""
    by = ticket.received.served_by(ticket.node).get(SERVED_BY, "")
    return by if by.startswith("provider:") else "engine"


def joined(heads: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Everybody's name once, and what they cost in all, from the heads of several answers."""
    found: dict[str, list[str]] = {}
    for head in heads:
        for name in (SERVED_BY, COST, COST_LIMIT):
            if name in head:
                found.setdefault(name, []).append(head[name])
    return {name: _joined(name, values) for name, values in found.items()}


def comments(headers: Mapping[str, str]) -> bytes:
    """What a head could not say, for an event stream."""
    return b"".join(sse.comment(f"{name} {value}") for name, value in headers.items())


def _joined(name: str, values: Sequence[str]) -> str:
    if name not in (COST, COST_LIMIT):
        return ", ".join(dict.fromkeys(values))
    amounts = [value.partition(" ") for value in values]  # "0.000012 USD", or "0" of a node
    units = [unit for _, _, unit in amounts if unit]
    total = sum((Decimal(amount) for amount, _, _ in amounts), Decimal())
    return f"{total} {units[0]}" if units else f"{total}"

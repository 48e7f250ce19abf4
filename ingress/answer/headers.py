"""Whence an answer comes and what it cost, as headers; for several jobs in one answer too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from urllib.parse import quote

from ingress.jobs.ticket import Ticket
from schemas.api import sse

OURS = "x-headrace-"
SERVED_BY = "x-headrace-served-by"
COST = "x-headrace-cost"
LIMIT = "x-headrace-cost-limit"
ERROR_SOURCE = "x-headrace-error-source"
"""As `schemas.errors.HeadraceError` has it, of refusals that did not come from the fabric."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def served_by(tickets: Sequence[Ticket]) -> dict[str, str]:
    """Of one answer, which several may have made; empty while nobody has."""
    found = [_said_of(ticket) for ticket in tickets]
    return found[0] if len(found) == 1 else joined(found)


def source(ticket: Ticket) -> str:
    """Who refused a request: the provider by its name, or an engine."""
    by = _said_of(ticket).get(SERVED_BY, "")
    return by if by.startswith("provider:") else "engine"


def _said_of(ticket: Ticket) -> dict[str, str]:
    if notes := ticket.received.notes:
        return {name: plain(value) for name, value in notes.items() if _is_ours(name)}
    return {} if ticket.node is None else {SERVED_BY: f"node:{plain(ticket.node)}", COST: "0"}


def plain(text: str) -> str:
    """As a header's value can carry it: what is not printable ASCII is written as in URLs."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=_PRINTABLE)


def _is_ours(name: str) -> bool:
    return name.startswith(OURS) and name.isascii() and name.replace("-", "").isalnum()


def joined(heads: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Everybody's name once, and what they cost in all, from the heads of several answers."""
    found: dict[str, list[str]] = {}
    for head in heads:
        for name in (SERVED_BY, COST, LIMIT):
            if name in head:
                found.setdefault(name, []).append(head[name])
    return {name: _joined(name, values) for name, values in found.items()}


def comments(headers: Mapping[str, str]) -> bytes:
    """What a head could not say, for an event stream."""
    return b"".join(sse.comment(f"{name} {value}") for name, value in headers.items())


def _joined(name: str, values: Sequence[str]) -> str:
    if name not in (COST, LIMIT):
        return ", ".join(dict.fromkeys(values))
    amounts = [value.partition(" ") for value in values]  # "0.000012 USD", or "0" of a node
    units = [unit for _, _, unit in amounts if unit]
    total = sum((Decimal(amount) for amount, _, _ in amounts), Decimal())
    return f"{total} {units[0]}" if units else f"{total}"

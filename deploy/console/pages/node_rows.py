"""Nodes as rows of a table, and what may be done to each. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deploy.nodes import listing
from deploy.nodes.changes import DRAIN, EVICT, FORGET, UNDRAIN
from deploy.nodes.listing import Row
from deploy.status import stamp
from schemas import registry

INVITED, JOINED = "invited", "joined"
MOST = 200
"""Rows that are shown."""
LABELS = {DRAIN: "Drain", UNDRAIN: "Undrain", EVICT: "Evict", FORGET: "Forget"}
QUESTIONS = {
    EVICT: "Evict {name}? Its connections are cut at once and its keys are dead for good. Others "
    "get its jobs.",
    FORGET: "Forget {name}? What is kept of it is dropped, an open invitation included.",
}
"""What is asked before what cannot be undone."""


def actions(row: Row) -> tuple[str, ...]:
    """What the hub would do to it now."""
    if row.how == INVITED:
        return (FORGET,)
    if row.state == registry.EVICTED:
        return (FORGET,)
    found = list[str]()
    if row.role != registry.INGRESS:
        drained = row.state in (registry.DRAINED, listing.DRAINING)
        found.append(UNDRAIN if drained else DRAIN)
    if row.how == JOINED:
        found.append(EVICT)
    if row.state == listing.AWAY:
        found.append(FORGET)
    return tuple(found)


def table(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For NiceGUI's table; the first `MOST` of them."""
    return [_row(row) for row, _ in zip(rows, range(MOST), strict=False)]


def cut(rows: list[Row]) -> str:
    """What is said of those that are not shown; "" if all are."""
    return f"{len(rows) - MOST} more are not shown." if len(rows) > MOST else ""


def _row(row: Row) -> dict[str, Any]:
    busy = row.state in (listing.DRAINING, registry.ACTIVE) and row.jobs
    models = ", ".join(row.models)
    if row.may:
        models += f" (may: {', '.join(row.may)})"
    return {
        "id": f"{row.how} {row.name}",
        "name": row.name,
        "role": row.role,
        "state": f"{row.state} ({row.jobs} jobs)" if busy else row.state,
        "tone": _TONES.get(row.state, "hr-warn"),
        "since": f"{stamp(row.since)} UTC" if row.since else "",
        "models": models.strip(),
        "version": row.version,
        "labels": " ".join(row.labels),
        "how": row.how,
        "actions": [{"verb": verb, "label": _label(verb, row)} for verb in actions(row)],
    }


def _label(verb: str, row: Row) -> str:
    return "Withdraw" if verb == FORGET and row.how == INVITED else LABELS[verb]


_TONES = {registry.ACTIVE: "hr-good", registry.EVICTED: "hr-bad", INVITED: "hr-soft"}

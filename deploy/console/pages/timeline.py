"""What became of one request, as a line and as a list. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from deploy.console.pages import rows
from deploy.console.pages.rows import Row

WIDTH, HEIGHT = 480, 48
_LEFT, _RIGHT, _MIDDLE = 14, 14, 24
_APART = 26
"""Least distance between two marks."""


@dataclass(frozen=True, slots=True)
class Step:
    """`at`: seconds since the request came. `phase`: what goes on from here to the next step."""

    at: float
    event: str
    words: str
    phase: str = ""


_PHASES: Mapping[str, str] = {
    "queued": "wait", "claimed": "begin", "first_token": "answer", "lost": "wait",
}  # fmt: skip
NAMES: Mapping[str, str] = {
    "wait": "waits",
    "begin": "until the first token",
    "answer": "answer",
}
"""Phases, as the legend says them."""


def steps(row: Row) -> list[Step]:
    """All that is known, in order; of one that runs until now."""
    return list(_steps(row))


def _steps(row: Row) -> Iterator[Step]:
    lost = False
    for each in row.get("timeline") or ():
        event, by = str(each.get("event", "")), _who(str(each.get("by") or ""))
        words = {
            "queued": "Queued",
            "claimed": f"Taken over by {by}" if lost else f"Claimed by {by}",
            "first_token": "First token" if row.get("stream") else "Answer begins",
            "lost": f"Lost by {by}",
            "ended": f"Ended: {rows.state(row)}",
        }.get(event, event)
        lost = lost or event == "lost"
        yield Step(_seconds(each.get("at")), event, words, _PHASES.get(event, ""))
    if row.get("state") != "ended":
        took = _seconds(row.get("took"))
        yield Step(took, "now", "Waits" if row.get("state") == "queued" else "Runs")


def _who(by: str) -> str:
    """``node:a`` → ``node a``."""
    return by.replace(":", " ", 1) or "somebody"


def _seconds(found: Any) -> float:
    return max(0.0, float(found)) if isinstance(found, int | float) else 0.0


def summary(steps: Sequence[Step]) -> str:
    """The line, for who cannot see it."""
    return "; ".join(f"{rows.seconds(step.at)}: {step.words}" for step in steps)


def drawn(steps: Sequence[Step]) -> str:
    """The line as SVG, whose marks have the numbers of the list."""
    if not steps:
        return ""
    whole = max(steps[-1].at, 0.001)
    places = _places([step.at / whole for step in steps])
    parts = [
        f'<line class="hd-tl-{step.phase}" x1="{x:.1f}" x2="{after:.1f}" '
        f'y1="{_MIDDLE}" y2="{_MIDDLE}"/>'
        for step, x, after in zip(steps, places, places[1:], strict=False)
        if step.phase
    ]
    parts += [
        f'<g class="hd-tl-mark hd-tl-{escape(step.event)}">'
        f'<circle cx="{x:.1f}" cy="{_MIDDLE}" r="11"/>'
        f'<text x="{x:.1f}" y="{_MIDDLE + 4}">{number}</text></g>'
        for number, (step, x) in enumerate(zip(steps, places, strict=True), 1)
    ]
    return (
        f'<svg class="hd-tl" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-label="{escape(summary(steps))}">{"".join(parts)}</svg>'
    )


def _places(parts: Sequence[float]) -> list[float]:
    """Where each mark stands: by its time, but apart from the one before, and all on the line."""
    room = WIDTH - _LEFT - _RIGHT
    apart = min(_APART, room / max(1, len(parts) - 1))
    found = list[float]()
    for number, part in enumerate(parts):
        least = found[-1] + apart if found else 0.0
        most = room - apart * (len(parts) - 1 - number)
        found.append(min(max(part * room, least), most))
    return [_LEFT + place for place in found]


def listed(steps: Sequence[Step]) -> str:
    """The list, as HTML."""
    items = (
        f'<li><span class="hd-tl-at">{rows.seconds(step.at)}</span> {escape(step.words)}</li>'
        for step in steps
    )
    return f'<ol class="hd-tl-list">{"".join(items)}</ol>'

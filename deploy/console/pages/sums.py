"""Usage as the page shows it: what is asked for, a plot by day, and a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.console.pages import bars
from deploy.console.pages.bars import Series
from deploy.money import decimal

Row = Mapping[str, Any]
SPANS: Mapping[str, str] = {"7d": "7 days", "30d": "30 days", "90d": "90 days", "365d": "a year"}
PARTS: Mapping[str, str] = {
    "model": "model",
    "key": "key",
    "account": "account",
    "node": "node",
    "provider": "provider",
}
"""By which a day is divided."""
MOST_ROWS = 200
"""Of the table."""


@dataclass(frozen=True, slots=True)
class Measure:
    """`fields`: of a row of usage, summed up. `said`: a sum for people."""

    title: str
    fields: tuple[str, ...]
    said: Callable[[float], str]

    def of(self, row: Row) -> float:
        return sum(float(row.get(name) or 0) for name in self.fields)


def still(chosen: str, names: Sequence[str]) -> str:
    """Which of `names` is chosen when they are shown anew: the same as before, if it is there."""
    return chosen if chosen in names else next(iter(names), "")


def count(found: float) -> str:
    """``12``, ``1,234``, ``1.23 M``."""
    if found >= 1e6:
        scale, letter = (1e9, "G") if found >= 1e9 else (1e6, "M")
        return f"{found / scale:.4g} {letter}"
    return f"{found:,.1f}".rstrip("0").rstrip(".") if found % 1 else f"{found:,.0f}"


def span(found: float) -> str:
    """``12 s``, ``3.5 min``, ``2.1 h``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if found >= size:
            return f"{count(round(found / size, 1))} {unit}"
    return f"{count(round(found, 1))} s"


def money(found: float) -> str:
    """Of micro-units, without the currency."""
    return decimal(round(found))


MEASURES: Mapping[str, Measure] = {
    "requests": Measure("Requests", ("requests",), count),
    "tokens": Measure("Tokens", ("prompt", "completion"), count),
    "slot_seconds": Measure("Time of slots", ("slot_seconds",), span),
    "cost": Measure("Cost", ("cost",), money),
    "images": Measure("Pictures", ("images",), count),
    "audio_seconds": Measure("Recordings", ("audio_seconds",), span),
    "failed": Measure("Failed requests", ("failed",), count),
}
_ALWAYS = ("requests", "prompt", "completion", "slot_seconds", "cost")
_COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "requests": ("requests", count),
    "failed": ("failed", count),
    "prompt": ("prompt tokens", count),
    "cached": ("of them cached", count),
    "completion": ("answer tokens", count),
    "images": ("pictures", count),
    "characters": ("characters", count),
    "audio_seconds": ("recordings", span),
    "slot_seconds": ("slots", span),
    "cost": ("cost", money),
    "uncharged": ("not charged", money),
    "hits": ("kept answers", count),
}


def series(rows: Iterable[Row], part: str, measure: Measure) -> Series:
    """What a plot shows, of rows by day and `part`."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if amount := measure.of(row):
            sums = found.setdefault(name(row, part), {})
            sums[row["day"]] = sums.get(row["day"], 0) + amount
    return bars.merged(found)


def days(since: str, now: float) -> list[str]:
    """Those of the last ``7d``, to today, by UTC."""
    first = now - 86_400 * int(since.removesuffix("d"))
    return bars.days(_day(first), _day(now))


def table(rows: Sequence[Row], part: str) -> tuple[list[str], list[list[str]]]:
    """(titles, cells) by `part`, the largest first; only columns that have a number, or matter
    always."""
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        into = sums.setdefault(name(row, part), dict.fromkeys(_COLUMNS, 0.0))
        for column in _COLUMNS:
            into[column] += row.get(column) or 0
    shown = [
        each for each in _COLUMNS if each in _ALWAYS or any(found[each] for found in sums.values())
    ]
    ordered = sorted(sums, key=lambda named: (-sums[named]["requests"], named))
    cells = [
        [named, *(_COLUMNS[each][1](sums[named][each]) for each in shown)] for named in ordered
    ]
    return [PARTS[part], *(_COLUMNS[each][0] for each in shown)], cells[:MOST_ROWS]


def name(row: Row, part: str) -> str:
    """Of what a row counts for. Nodes serve what no provider does, and the other way round."""
    said = str(row.get(part) or "")
    return said or {"node": "providers, kept answers", "provider": "own nodes"}.get(part, "–")


def entry(found: Mapping[str, Any]) -> dict[str, str]:
    """A line of an account's ledger."""
    usage = found.get("usage") or {}
    about = str(found.get("note") or "")
    if usage:
        about = f"{usage.get('provider')}/{usage.get('provider_model')}"
    change = int(found.get("change") or 0)
    at = datetime.fromtimestamp(float(found.get("at") or 0), UTC)
    return {
        "at": f"{at:%Y-%m-%d %H:%M:%S}",
        "kind": str(found.get("kind") or ""),
        "change": f"{'+' if change >= 0 else ''}{decimal(change)}",
        "balance": decimal(int(found.get("balance") or 0)),
        "job": str(found.get("job") or ""),
        "about": about,
    }


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()

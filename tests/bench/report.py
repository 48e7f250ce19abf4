"""Rows of figures, their table, and the JSON beside it."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.system import nats_version


@dataclass(frozen=True)
class Row:
    """One figure. `reference`: the same without the fabric, or the ideal; `ratio`: to that.

    `failures`: requests that did not end as they should; a row with any has missed its target.
    `raw`: whatever the figure was computed from.
    """

    figure: str
    what: str
    unit: str
    value: float
    target: float | None = None
    at_least: bool = False
    reference: float | None = None
    ratio: float | None = None
    failures: int = 0
    detail: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        good = self.value >= self.target if self.at_least else self.value <= self.target
        return good and not self.failures


def about(command: list[str]) -> dict[str, Any]:
    """Where and how the figures were taken."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(command),
        "nats-server": nats_version(),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load before": [round(load, 2) for load in os.getloadavg()],
    }


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    shown = Table(title="Headrace, measured")
    for name in ("", "figure", "measured", "target", "", "reference", "ratio", "detail"):
        numeric = name in ("measured", "target", "reference", "ratio")
        shown.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    marks = {True: "[green]pass[/]", False: "[red]miss[/]", None: ""}
    for row in rows:
        limit = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
        detail = ", ".join(f"{name} {_number(value)}" for name, value in row.detail.items())
        if row.failures:
            detail = f"[red]{row.failures} failed[/], {detail}"
        shown.add_row(
            row.figure,
            f"{row.what} ({row.unit})",
            _number(row.value),
            limit,
            marks[row.met],
            "" if row.reference is None else _number(row.reference),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            detail,
        )
    return shown


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def show(rows: list[Row], where: dict[str, Any], console: Console) -> None:
    """Print the circumstances and the table."""
    for name, value in where.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    console.print(table(rows))


def save(rows: list[Row], where: dict[str, Any], path: Path) -> None:
    """Write everything to `path` as JSON; an infinite number becomes null."""
    told = [
        {name: getattr(row, name) for name in (*Row.__dataclass_fields__, "met")} for row in rows
    ]
    path.write_bytes(orjson.dumps({"about": where, "rows": told}, option=orjson.OPT_INDENT_2))

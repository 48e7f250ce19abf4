"""Usage by day as a plot and by model, key and so on as a table; credits, for admins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.pages import bars, sums
from deploy.console.pages.credits import Credits
from deploy.console.pages.newest import Newest
from deploy.console.pages.plain_tables import table
from deploy.console.session import Session
from schemas.keys import ADMIN, READ_USAGE

_PART, _SPAN, _MEASURE = "model", "7d", "requests"


async def build(session: Session) -> None:
    if parts.denied(session, READ_USAGE):
        return
    await Usage(session).load()
    if session.admin:
        await Credits(session).load()


class Usage:
    """What was used: of all accounts for an admin, of the key's own account for others."""

    def __init__(self, session: Session) -> None:
        self._edge = session.edge
        self._path = "/admin/usage" if ADMIN in session.scopes else "/v1/usage"
        self._loads = Newest()
        self._rows: list[sums.Row] = []
        self._by, self._since = _PART, _SPAN  # of the rows; the fields may be ahead of them
        self._currency = ""
        with parts.card():
            parts.heading("Usage")
            with ui.element("div").classes("hr-row"):
                self._span = _select("Time", sums.SPANS, _SPAN, self.load)
                self._part = _select("By", sums.PARTS, _PART, self.load)
                titles = {name: measure.title for name, measure in sums.MEASURES.items()}
                self._measure = _select("Plot", titles, _MEASURE, self._show)
            self._area = ui.element("div").props('aria-live="polite"')
            with self._area:
                parts.loading()

    async def load(self) -> None:
        """Ask anew, for what the fields say."""
        is_newest = self._loads.ask()
        since, by = self._span.value, self._part.value
        try:
            found = await self._edge.get(self._path, since=since, by=f"day,{by}")
        except EdgeFault as fault:
            if is_newest():
                self._area.clear()
                with self._area:
                    parts.problem(fault.told)
            return
        if is_newest():
            self._rows, self._currency = found["data"], found["currency"]
            self._since, self._by = since, by
            self._show()

    def _show(self) -> None:
        self._area.clear()
        with self._area:
            if self._rows:
                self._plot()
                titles, cells = sums.table(self._rows, self._by)
                money = f"cost {self._currency}"
                table([money if each == "cost" else each for each in titles], cells, label="Usage")
            else:
                parts.empty("Nothing was used in this time.")

    def _plot(self) -> None:
        part, measure = self._by, sums.MEASURES[self._measure.value]
        unit = f" ({self._currency})" if measure is sums.MEASURES["cost"] else ""
        series = sums.series(self._rows, part, measure)
        if not series:
            parts.empty(f"{measure.title}: none in this time.")
            return
        shown = sums.days(self._since, time.time())
        title = f"{measure.title}{unit} by day and {sums.PARTS[part]}"
        drawn = bars.drawn(series, shown, title, measure.said)
        # Made by us; names in it are escaped.
        ui.html(drawn + bars.legend(series, measure.said), sanitize=False)


def _select(label: str, options: Mapping[str, str], value: str, change: Any) -> ui.select:
    made = ui.select(dict(options), label=label, value=value, on_change=lambda _: change())
    made.props("outlined dense options-dense").classes("hr-select")
    return made

"""Requests that wait, run and have ended, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from nicegui import ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.frame import every
from deploy.console.pages import rows, timeline
from deploy.console.pages.dialogs import sure
from deploy.console.pages.rows import Row
from deploy.console.session import Session
from deploy.console.watch import Watch
from schemas.keys import INFERENCE, READ_USAGE

LOOK = 2.0
"""Seconds between two looks."""
_COLUMNS = (
    ("at", "Came", False),
    ("state", "State", False),
    ("key", "Key", False),
    ("model", "Model", False),
    ("by", "Served by", False),
    ("attempts", "Attempts", True),
    ("wait", "Wait", True),
    ("ttft", "First token", True),
    ("rate", "Tokens/s", True),
    ("took", "Took", True),
    ("cost", "Cost", True),
)


def build(session: Session) -> None:
    if not parts.denied(session, READ_USAGE):
        _Page(
            session.feed.watches.of(session.edge, session.scopes),
            session.may(INFERENCE) or session.admin,
        )


class _Table(ui.element, component="rows.js"):
    """`opened` is called with the id of a row that is clicked."""

    def __init__(self, opened: Callable[[str], None]) -> None:
        super().__init__()
        self._props["columns"] = [
            {"name": name, "label": label, "right": right} for name, label, right in _COLUMNS
        ]
        self._props["rows"] = []
        self.on("open", lambda event: opened(str(event.args)))

    def show(self, cells: list[dict[str, Any]]) -> None:
        if cells != self._props["rows"]:
            self._props["rows"] = cells
            self.update()


class _Page:
    def __init__(self, watch: Watch, may_cancel: bool) -> None:
        self._watch = watch
        self._shown = -1
        self._first = 0
        """The place of the first row of the page that is shown."""
        self._one = _One(watch, may_cancel)
        with ui.element("div").classes("hr-row"):
            self._state = ui.select(dict(rows.STATES), value="all", label="State")
            self._state.classes("hd-choice")
            self._text = ui.input("Filter", placeholder="key, model, node, id …")
            self._text.props("clearable debounce=300")
            self._follows = ui.switch("Live", value=True)
            ui.space()
            self._count = ui.label().classes("hr-soft")
            self._newer = self._turner("Newer", -rows.PAGE)
            self._older = self._turner("Older", rows.PAGE)
        for control in (self._state, self._text):
            control.props("dense outlined options-dense").on_value_change(self._begin)
        self._problem = ui.label().classes("hr-problem").props("role=alert")
        self._problem.set_visibility(False)
        self._empty = ui.label("Loading …").classes("hr-empty")
        with parts.card().classes("hr-scroll") as self._card:
            self._table = _Table(self._one.open)
        self._card.set_visibility(False)
        every(LOOK, self._look)

    def _turner(self, name: str, by: int) -> ui.button:
        def turn() -> None:
            self._first = max(0, self._first + by)
            self._draw()

        return ui.button(name, on_click=turn, color=None).props("flat dense no-caps")

    def _begin(self) -> None:
        self._first = 0
        self._draw()

    async def _look(self) -> None:
        await self._watch.look()
        fault = self._watch.fault
        if fault != self._problem.text:
            self._problem.set_text(fault)
            self._problem.set_visibility(bool(fault))
        if self._follows.value and self._watch.seen.version != self._shown:
            self._draw()
        self._one.renew()

    def _draw(self) -> None:
        seen = self._watch.seen
        if not self._watch.asked:
            return
        self._shown = seen.version
        found = list(rows.chosen(seen, self._state.value, self._text.value or ""))
        self._first = min(self._first, max(0, len(found) - 1) // rows.PAGE * rows.PAGE)
        shown = found[self._first : self._first + rows.PAGE]
        self._table.show([rows.cells(row) for row in shown])
        self._card.set_visibility(bool(shown))
        self._empty.set_text(_NONE if not len(seen) else "No request is like that.")
        self._empty.set_visibility(not shown)
        self._count.set_text(said(self._first, len(shown), len(found), self._watch))
        self._newer.set_enabled(self._first > 0)
        self._older.set_enabled(self._first + rows.PAGE < len(found))


_NONE = "No request was made yet. The playground makes one."


def said(first: int, shown: int, found: int, watch: Watch) -> str:
    """What of all is shown, and what may be missing."""
    seen = watch.seen
    parts = [f"{first + 1}–{first + shown} of {found}" if shown else "none"]
    parts.append(f"{seen.live} waiting or running")
    if seen.skipped:
        parts.append("so many ended at once that some are not here")
    if not seen.complete:
        parts.append("an ingress did not answer")
    return " · ".join(parts)


class _One:
    """The dialog with one request."""

    def __init__(self, watch: Watch, may_cancel: bool) -> None:
        self._watch = watch
        self._may_cancel = may_cancel
        self._id = ""
        title = "What became of it"
        self._dialog = ui.dialog().props(f'aria-label="{title}"')
        with self._dialog, ui.card().classes("hd-dialog"):
            ui.html(title, tag="h2")
            self._drawing = ui.html().classes("hd-drawing")
            self._facts = ui.html()
            with ui.element("div").classes("hr-row hd-buttons"):
                self._cancel = ui.button("Cancel the request …", on_click=self._ask, color=None)
                self._cancel.props("outline no-caps").classes("hr-bad")
                ui.button("Close", on_click=self._dialog.close).props("no-caps")

    def open(self, id: str) -> None:
        self._id = id
        self.renew(opening=True)
        self._dialog.open()

    def renew(self, *, opening: bool = False) -> None:
        """Show what is known by now."""
        if not (opening or self._dialog.value):
            return
        if (row := self._watch.seen.find(self._id)) is not None:
            for part, text in ((self._drawing, drawing(row)), (self._facts, facts(row))):
                if part.content != text:
                    part.set_content(text)
            self._cancel.set_visibility(self._may_cancel and row["state"] != "ended")

    async def _ask(self) -> None:
        """Cancel it, if who looks means that."""
        said = "It ends at once, and its client gets the error request_cancelled."
        if not await sure("Cancel the request?", said, "Cancel the request", "Let it run"):
            return
        try:
            await self._watch.cancel(self._id)
            ui.notify("The request was cancelled.", type="positive")
        except EdgeFault as fault:
            ui.notify(fault.told, type="negative")
        await self._watch.look()
        self.renew()


def drawing(row: Row) -> str:
    """The line with its legend and its list."""
    steps = timeline.steps(row)
    legend = Markup("").join(
        Markup('<span class="hd-tl-{}">{}</span>').format(phase, words)
        for phase, words in timeline.NAMES.items()
    )
    key = Markup('<div class="hd-tl-key" aria-hidden="true">{}</div>').format(legend)
    return f"{timeline.drawn(steps)}{key}{timeline.listed(steps)}"


def facts(row: Row) -> Markup:
    items = Markup("").join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, words) for name, words in rows.facts(row)
    )
    return Markup('<dl class="hd-facts">{}</dl>').format(items)

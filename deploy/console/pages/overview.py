"""What runs, what waits and how fast it goes: the first page."""

from __future__ import annotations

import time

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.frame import every
from deploy.console.pages import cluster, plots, rows, tables
from deploy.console.pages.plots import plot
from deploy.console.session import Session
from deploy.console.watch import Watch
from schemas.keys import READ_USAGE

LOOK = 1.0
"""Seconds between two looks at the fabric."""
PLOTS = 5.0
"""Seconds between two drawings of the last hour."""
OF = 3
"""Steps of the history in one point of a plot: 30 s."""
FIGURES = 30
"""Steps in one row of the table of figures: 5 min."""
_ALL = "All models"


def build(session: Session) -> None:
    if session.admin:
        fabric = _Fabric(session)
        _Hour(session.feed.watches.of(session.edge, session.scopes))
        fabric.follow()
        return
    _Models(session)
    if session.may(READ_USAGE):
        _Hour(session.feed.watches.of(session.edge, session.scopes))


def put(part: ui.html, text: str) -> None:
    """Change what a part shows, if it is another thing: else nothing goes to the browser."""
    if part.content != text:
        part.set_content(text)


class _Fabric:
    """All that the broker tells, for admins."""

    def __init__(self, session: Session) -> None:
        self._feed = session.feed
        self._tiles = ui.html()
        self._warnings = _section("Warnings")
        self._models = _section("Models")

    def follow(self) -> None:
        """Put the rest below what is there by now, and show all of it from now on."""
        self._nodes = _section("Nodes")
        self._queue = _section("Waiting, by model and tenant")
        every(LOOK, self._show)

    def _show(self) -> None:
        survey = self._feed.survey
        if survey is None:
            put(self._models, tables.note("Waiting for the broker …"))
            return
        put(self._tiles, cluster.tiles(survey))
        put(self._warnings, cluster.warnings(self._feed.findings))
        models = cluster.model_rows(cluster.models(survey, self._feed.memory))
        put(self._models, tables.filled("Models", cluster.MODEL_COLUMNS, models, NO_MODELS))
        nodes = cluster.node_rows(survey, self._feed.memory, time.time())
        put(self._nodes, tables.filled("Nodes", cluster.NODE_COLUMNS, nodes, NO_NODES))
        waiting = cluster.queue_rows(survey)
        put(self._queue, tables.filled("Waiting", cluster.QUEUE_COLUMNS, waiting, "Nobody waits."))


NO_MODELS = "No model is served yet: start a worker with 'headrace worker'."
NO_NODES = "No node is connected: start a worker with 'headrace worker'."


class _Models:
    """Models alone, as the ingress tells them to a key that is no admin's."""

    def __init__(self, session: Session) -> None:
        self._edge = session.edge
        self._may = session.may(READ_USAGE)
        self._models = _section("Models")
        every(2 * LOOK, self._show)

    async def _show(self) -> None:
        try:
            if self._may:
                said = (await self._edge.get("/v1/queue"))["data"]
                found = cluster.model_rows(cluster.of_queues(said))
                put(self._models, tables.filled("Models", cluster.MODEL_COLUMNS, found, NO_MODELS))
                return
            names = [(model["id"],) for model in (await self._edge.get("/v1/models"))["data"]]
            put(self._models, tables.filled("Models", ("model",), names, NO_MODELS))
        except EdgeFault as fault:
            put(self._models, tables.note(fault.told))


class _Hour:
    """The last hour of all models or of one, as plots and as figures."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        with parts.card():
            with ui.element("div").classes("hr-row"):
                parts.heading("The last hour")
                ui.space()
                self._model = ui.select([_ALL], value=_ALL, label="Model")
                self._model.props("dense outlined options-dense").classes("hd-choice")
            self._plots = ui.html().classes("hd-plots")
            with ui.expansion("Figures").props("dense").classes("hd-figures"):
                self._figures = ui.html().classes("hd-wide")
        self._model.on_value_change(self._draw)
        every(PLOTS, self._show)

    async def _show(self) -> None:
        await self._watch.look()
        names = [_ALL, *self._watch.history.models(time.time())]
        if names != self._model.options:
            known = self._model.value in names
            self._model.set_options(names, value=self._model.value if known else _ALL)
        self._draw()

    def _draw(self) -> None:
        if self._watch.fault and not self._watch.asked:
            put(self._plots, tables.note(self._watch.fault))
            return
        model = "" if self._model.value == _ALL else str(self._model.value)
        now, history = time.time(), self._watch.history
        points = history.points(now, model, OF)
        put(
            self._plots,
            plot("Tokens a second", points, plots.of_rate(points), plots.per_second)
            + plot("Time to the first token", points, plots.of_ttft(points), rows.seconds)
            + plot("Wait in the queue", points, plots.of_wait(points), rows.seconds),
        )
        figures = plots.figures(history.points(now, model, FIGURES))
        none = "Nothing ended in the last hour."
        put(self._figures, tables.filled("The last hour", plots.COLUMNS, figures, none))


def _section(title: str) -> ui.html:
    with parts.card():
        parts.heading(title)
        return ui.html(tables.note("Loading …"))

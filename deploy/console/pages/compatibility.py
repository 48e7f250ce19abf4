"""The compatibility matrix of the models that are served: probed on a click, with progress."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import background_tasks, context, ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.pages.matrix import Matrix, drawn, summary
from deploy.console.pages.plain_tables import framed
from deploy.console.session import Session
from schemas.api import sse
from schemas.keys import INFERENCE

_ALL = "all models"
_REFRESH = 0.5
"""Seconds between two looks of the table while it is filled."""
_SILENCE = 300.0
"""Seconds without a cell after which the ingress counts as gone; no probe takes as long."""


async def build(session: Session) -> None:
    if parts.denied(session, INFERENCE):
        return
    await Compatibility(session).load()


class Compatibility:
    """A run goes on as long as its page is open, and ends with it."""

    def __init__(self, session: Session) -> None:
        self._edge = session.edge
        self._run: asyncio.Task[None] | None = None
        with parts.card().classes("hr-column"):
            ui.label(
                "Each served model is asked real requests, and each cell says what was seen. No "
                "provider is asked. A model takes seconds to minutes; its slots are used meanwhile."
            ).classes("hr-soft")
            with ui.element("div").classes("hr-row"):
                self._model = ui.select([_ALL], label="Model", value=_ALL)
                self._model.props("outlined dense options-dense").classes("hr-select")
                self._start = ui.button("Probe", icon="play_arrow", on_click=self._begin)
                self._stop = ui.button("Stop", icon="stop", on_click=self._end).props("outline")
            self._bar = ui.linear_progress(0, show_value=False).props('aria-label="Progress"')
            self._now = ui.label().props("role=status").classes("hr-soft")
            self._area = ui.element("div")
        self._running(False)
        self._client = context.client
        self._client.on_delete(self._end)

    async def load(self) -> None:
        try:
            found = await self._edge.get("/v1/models")
        except EdgeFault as fault:
            with self._area:
                parts.problem(fault.told)
            return
        served = [each["id"] for each in found["data"] if each["headrace"]["nodes"]]
        self._model.set_options([_ALL, *served], value=_ALL)
        with self._area:
            parts.empty("Nothing was probed yet." if served else "No model is served now.")

    def _begin(self) -> None:
        if self._run is None or self._run.done():
            self._run = background_tasks.create(self._probe(self._model.value), name="compat")

    def _end(self) -> None:
        if self._run is not None:
            self._run.cancel()

    async def _probe(self, model: str) -> None:
        found = Matrix()
        self._running(True)
        drawing = asyncio.create_task(self._draw(found))
        said = "stopped"
        try:
            await self._ask(found, {} if model == _ALL else {"model": model})
            said = summary(found) if found.whole else "The ingress ended its answer too early."
        except EdgeFault as fault:
            said = fault.told
        except sse.TooLong as fault:
            said = str(fault)
        finally:
            drawing.cancel()
            if not self._client.is_deleted:
                self._running(False)
                self._show(found)
                self._now.set_text(said)

    async def _ask(self, found: Matrix, query: dict[str, Any]) -> None:
        async with self._edge.asking(
            "GET", "/v1/compat", query=query, accept=sse.CONTENT_TYPE, silence=_SILENCE
        ) as answer:
            async for piece in answer.content.iter_any():
                found.feed(piece)

    async def _draw(self, found: Matrix) -> None:
        while True:
            self._show(found)
            await asyncio.sleep(_REFRESH)

    def _show(self, found: Matrix) -> None:
        self._bar.set_value(found.share)
        self._now.set_text(f"{found.done} of {found.of}: {found.now}" if found.of else "begins")
        if found.cells:
            self._area.clear()
            with self._area:
                ui.html(
                    framed(drawn(found), "Compatibility"), sanitize=False
                )  # made by us; what models said is escaped

    def _running(self, on: bool) -> None:
        self._bar.set_visibility(on)
        self._stop.set_visibility(on)
        self._start.set_visibility(not on)

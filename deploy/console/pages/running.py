"""One request of the playground at a time: its task, its button and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from nicegui import background_tasks, context, ui

from deploy.console.edge import Edge
from deploy.console.pages import snippets
from deploy.console.pages.asked import Asked
from deploy.console.pages.copying import copies

SILENCE = 900.0
"""Seconds that an answer may take to come: a picture on a CPU takes minutes."""


class Running:
    """`work`: does one request. `stop` ends it, and the ingress is told by that; whoever makes this
    calls it at the page's end, too."""

    def __init__(self, label: str, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        with ui.element("div").classes("hr-row"):
            self._start = ui.button(label, icon="send", on_click=self.start)
            self._stop = ui.button("Stop", icon="stop", on_click=self.stop).props("outline")
        self._stop.set_visibility(False)
        self.client = context.client

    @property
    def on(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        if not self.on:
            self._task = background_tasks.create(self._run(), name="playground")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        self._show(on=True)
        try:
            with self.client:  # a task of its own has no place on a page
                await self._work()
        finally:
            self._show(on=False)

    def _show(self, *, on: bool) -> None:
        if self.client.is_deleted:
            return
        self._start.set_visibility(not on)
        self._stop.set_visibility(on)


@asynccontextmanager
async def sent(edge: Edge, asked: Asked) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to `asked`. Raises EdgeFault."""
    if asked.file is None:
        async with edge.asking(
            "POST", asked.path, body=asked.document(), silence=SILENCE
        ) as answer:
            yield answer
        return
    form = aiohttp.FormData()
    for name, value in asked.body.items():
        form.add_field(name, str(value))
    file = asked.file
    form.add_field("file", file.content, filename=file.name, content_type=file.type)
    async with edge.asking("POST", asked.path, form=form, silence=SILENCE) as answer:
        yield answer


class Snippets:
    """What was just sent, as a command and as a program."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._area = ui.expansion("The same as a command, and in Python").classes("hr-snippets")
        self._area.set_visibility(False)

    def show(self, asked: Asked) -> None:
        self._area.clear()
        self._area.set_visibility(True)
        with self._area:
            for title, write in (("curl", snippets.curl), ("Python", snippets.python)):
                with ui.element("div").classes("hr-row"):
                    ui.label(title).classes("hr-strong")
                    place = ui.element("div").classes("hr-row")
                shown = ui.element("pre").props(f'tabindex=0 aria-label="{title}"')
                with shown.classes("hr-code"):
                    ui.label(write(asked, self._edge.url)).classes("hr-pre")
                with place:
                    copies(shown)
            said = f"Both read the key from the variable {snippets.VARIABLE} of the environment."
            ui.label(said).classes("hr-soft")


def now() -> float:
    return time.monotonic()

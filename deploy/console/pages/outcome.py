"""What comes of a request of the playground that is answered at once, and not as a stream."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import context, ui

from deploy.console import parts
from deploy.console.edge import Edge, EdgeFault, whole
from deploy.console.pages import reply, rows
from deploy.console.pages.asked import Asked, Wrong
from deploy.console.pages.figures import figures
from deploy.console.pages.running import Running, Snippets, now, sent
from schemas.frames import NOTED


class Outcome:
    """`ask`: makes the request of what the fields say; raises Wrong. `show`: puts the body of an
    answer on the page; raises Wrong."""

    def __init__(
        self, edge: Edge, label: str, ask: Callable[[], Asked], show: Callable[[bytes], None]
    ) -> None:
        self._edge, self._ask, self._show = edge, ask, show
        self._running = Running(label, self._work)
        self._state = ui.label().classes("hr-soft").props("role=status")
        self._area = ui.element("div").classes("hr-column")
        self._snippets = Snippets(edge)

    def stop(self) -> None:
        self._running.stop()

    async def _work(self) -> None:
        try:
            request = self._ask()
        except Wrong as why:
            ui.notify(str(why), type="warning")
            return
        self._snippets.show(request)
        self._area.clear()
        self._state.set_text("works")
        began, said = now(), "stopped"
        try:
            async with sent(self._edge, request) as answer:
                body, notes = await whole(answer), dict(answer.headers)
            self._answered(body, notes, now() - began)
            said = ""
        except EdgeFault as fault:
            said = ""
            self._say(fault.told)
        finally:
            if not context.client.is_deleted:
                self._state.set_text(said)

    def _answered(self, body: bytes, headers: dict[str, str], took: float) -> None:
        notes = {
            name.lower().removeprefix(NOTED): value
            for name, value in headers.items()
            if name.lower().startswith(NOTED)
        }
        with self._area:
            try:
                self._show(body)
            except Wrong as why:
                parts.problem(str(why))
            figures([("took", rows.seconds(took)), *reply.served(notes)])

    def _say(self, text: str) -> None:
        with self._area:
            parts.problem(text)

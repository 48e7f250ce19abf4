"""The playground: chats, transcriptions and pictures, by what the chosen model can do."""

from __future__ import annotations

from nicegui import context, ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.pages import abilities
from deploy.console.pages.abilities import Model
from deploy.console.pages.chatting import Chatting
from deploy.console.pages.painting import Painting
from deploy.console.pages.transcribing import Transcribing
from deploy.console.session import Session
from schemas.keys import INFERENCE

Panel = Chatting | Transcribing | Painting
_MODES: dict[str, type[Panel]] = {
    "Chat": Chatting,
    "Transcription": Transcribing,
    "Picture": Painting,
}


async def build(session: Session) -> None:
    if parts.denied(session, INFERENCE):
        return
    waits = parts.loading()
    try:
        found = abilities.models(await session.edge.get("/v1/models"))
    except EdgeFault as fault:
        waits.delete()
        parts.problem(fault.told)
        return
    waits.delete()
    if found:
        Playground(session, found)
    else:
        parts.empty("No model is served now. Start a worker with 'headrace worker'.")


class Playground:
    """A model, what is asked of it, and the panel for that."""

    def __init__(self, session: Session, models: list[Model]) -> None:
        self._session = session
        self._models = {model.id: model for model in models}
        self._panel: Panel | None = None
        with parts.card(), ui.element("div").classes("hr-row"):
            self._model = ui.select(
                list(self._models), label="Model", value=models[0].id, on_change=self._chosen
            )
            self._model.props("outlined dense options-dense").classes("hr-select")
            self._mode = ui.toggle(models[0].modes, value=models[0].modes[0], on_change=self._show)
            self._where = ui.label().classes("hr-soft")
        self._area = ui.element("div").classes("hr-column")
        # Once for all panels: each handler stays as long as the page, with all that it holds.
        context.client.on_delete(self._stop)
        self._chosen()

    def _chosen(self) -> None:
        model = self._models[self._model.value]
        self._where.set_text(f"served by {model.where()}")
        mode = self._mode.value if self._mode.value in model.modes else model.modes[0]
        self._mode.set_visibility(len(model.modes) > 1)
        if mode == self._mode.value and isinstance(self._panel, Chatting):
            self._mode.set_options(model.modes, value=mode)
            self._panel.turn_to(model)  # the conversation goes on with another model
            return
        self._stop()
        self._panel = None
        self._mode.set_options(model.modes, value=mode)
        self._show()

    def _show(self) -> None:
        model, mode = self._models[self._model.value], _MODES[self._mode.value]
        if self._panel is not None:
            if type(self._panel) is mode and self._panel.model == model:
                return
            self._stop()
        self._area.clear()
        with self._area:
            self._panel = mode(self._session.edge, model)

    def _stop(self) -> None:
        if self._panel is not None:
            self._panel.stop()

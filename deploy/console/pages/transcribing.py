"""The playground's transcriptions: a recording in, its text out."""

from __future__ import annotations

import orjson
from nicegui import ui

from deploy.console import parts
from deploy.console.edge import Edge
from deploy.console.pages import asked
from deploy.console.pages.abilities import Model
from deploy.console.pages.asked import HEARD, Wrong
from deploy.console.pages.files import Files
from deploy.console.pages.outcome import Outcome


class Transcribing:
    def __init__(self, edge: Edge, model: Model) -> None:
        self.model = model
        with parts.card().classes("hr-column") as place:
            self._files = Files("Choose a recording", HEARD, place, 1)
            with ui.element("div").classes("hr-grid"):
                self._language = parts.field("Language", "as de; nothing: found by the model")
                self._prompt = parts.field("Words that may occur", "names, say")
            self._translated: ui.switch | None = None
            if model.translates:
                self._translated = ui.switch("Translate into English")
            self._outcome = Outcome(edge, "Write it down", self._asked, self._shown)

    def stop(self) -> None:
        self._outcome.stop()

    def _asked(self) -> asked.Asked:
        if not self._files.chosen:
            raise Wrong("Give a recording.")
        return asked.transcription(
            self.model.id,
            self._files.chosen[0],
            language=self._language.value,
            prompt=self._prompt.value,
            translated=bool(self._translated and self._translated.value),
        )

    def _shown(self, body: bytes) -> None:
        try:
            text = str(orjson.loads(body)["text"])
        except (orjson.JSONDecodeError, LookupError, TypeError):
            text = body.decode(errors="replace")
        ui.label(text.strip() or "Nothing was heard.").classes("hr-pre hr-heard")

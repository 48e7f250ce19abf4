"""The playground's pictures: words in, pictures out."""

from __future__ import annotations

from typing import Any

import orjson
from nicegui import ui

from deploy.console import parts
from deploy.console.edge import Edge
from deploy.console.pages import asked
from deploy.console.pages.abilities import Model
from deploy.console.pages.asked import Wrong
from deploy.console.pages.outcome import Outcome
from deploy.console.pages.parameters import further
from schemas import pictures


class Painting:
    def __init__(self, edge: Edge, model: Model) -> None:
        self.model = model
        self._words = ""
        with parts.card().classes("hr-column"):
            self._prompt = ui.textarea("What it is to show").props("outlined autogrow")
            self._prompt.classes("hr-wide")
            with ui.element("div").classes("hr-grid"):
                self._size = parts.field("Size", "as 512x512; nothing: as the model likes")
                self._count = parts.field("How many", "1 to 10")
                self._seed = parts.field("Seed", "the same one, the same picture")
                more = "Further fields, as a JSON object"
                self._more = parts.field(more, "as the engine has them")
            self._outcome = Outcome(edge, "Make it", self._asked, self._shown)

    def stop(self) -> None:
        self._outcome.stop()

    def _asked(self) -> asked.Asked:
        self._words = self._prompt.value
        more: dict[str, Any] = {}
        if size := self._size.value.strip():
            more["size"] = size
        for name, field in (("n", self._count), ("seed", self._seed)):
            if text := field.value.strip():
                if not text.lstrip("-").isdecimal():
                    raise Wrong(f"{text!r} is no whole number.")
                more[name] = int(text)
        return asked.picture(self.model.id, self._words, {**more, **further(self._more.value)})

    def _shown(self, body: bytes) -> None:
        for encoded in drawn(body):
            image = ui.element("img").classes("hr-picture")
            image.props["alt"] = f"Picture: {self._words}"
            image.props["src"] = encoded


def drawn(body: bytes) -> list[str]:
    """The data URLs of the pictures of an answer. Raises Wrong."""
    try:
        found = [str(each["b64_json"]) for each in orjson.loads(body)["data"]]
        return [f"data:image/{_kind(each)};base64,{each}" for each in found]
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        raise Wrong("The answer has something that is no picture.") from None


def _kind(encoded: str) -> str:
    """Raises ValueError for what is no picture."""
    return pictures.head(asked.decoded(encoded)).format

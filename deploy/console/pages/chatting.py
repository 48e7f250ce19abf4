"""The playground's chat: a conversation that streams, with files, parameters and figures."""

from __future__ import annotations

import time

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import Edge, EdgeFault
from deploy.console.pages import asked
from deploy.console.pages.abilities import Model
from deploy.console.pages.asked import PICTURES, SOUNDS, File, Inline, Turn, Wrong
from deploy.console.pages.figures import figures
from deploy.console.pages.files import Files
from deploy.console.pages.markdown import rendered
from deploy.console.pages.parameters import Parameters
from deploy.console.pages.reply import Reply
from deploy.console.pages.running import Running, Snippets, now, sent
from schemas.api import sse

_OFTEN = 0.1
"""Seconds at least between two looks of an answer that grows."""
_SHARE = 20
"""Rendering a long answer takes at most one part in so many of the time."""
_AWAY = """(e) => {
  const link = e.target.closest('a');
  if (!link) return;
  e.preventDefault();
  window.open(link.href, '_blank', 'noopener,noreferrer');
}"""
"""Links open pages of their own, so that the conversation stays. The sanitizer takes `target`."""


class Chatting:
    """A conversation. It is in this page alone, and gone with it."""

    def __init__(self, edge: Edge, model: Model) -> None:
        self._edge = edge
        self.model = model
        self._turns: list[Turn] = []
        with ui.element("div").classes("hr-play"):
            with ui.element("div").classes("hr-column"):
                with parts.card() as card:
                    self._log = ui.element("div").classes("hr-log")
                    self._log.props('role=log aria-label="Conversation"')
                    with self._log:
                        self._empty = parts.empty("Say something to the model.")
                    self._compose(card)
                self._snippets = Snippets(edge)
            with parts.card(), ui.element("div").classes("hr-column"):
                self._parameters = Parameters()
        self.turn_to(model)

    def turn_to(self, model: Model) -> None:
        """Go on with another model."""
        self.model = model
        self._parameters.turn_to(model)
        known = {**(PICTURES if model.sees else {}), **(SOUNDS if model.hears else {})}
        what = " and ".join(["pictures"] * model.sees + ["recordings"] * model.hears)
        self._files.turn_to(f"Add {what}", known)

    def stop(self) -> None:
        self._running.stop()

    def _enter(self) -> None:
        self._running.start()

    def _compose(self, card: ui.element) -> None:
        self._files = Files("", {}, card)
        self._text = ui.textarea("Message").props("outlined autogrow input-style=max-height:12rem")
        self._text.classes("hr-wide hr-message").props(
            'hint="Enter sends, Shift and Enter begin a line"'
        )
        # The browser keeps the line that Enter would begin.
        self._text.on(
            "keydown",
            self._enter,
            js_handler="(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) "
            "{ e.preventDefault(); emit(); } }",
        )
        with ui.element("div").classes("hr-row"):
            self._running = Running("Send", self._send)
            ui.button("New conversation", on_click=self._anew).props("flat")

    def _anew(self) -> None:
        self.stop()
        self._turns = []  # an answer that still ends belongs to the one before
        self._log.clear()
        with self._log:
            self._empty = parts.empty("Say something to the model.")

    async def _send(self) -> None:
        text, files = self._text.value, tuple(self._files.chosen)
        if not text.strip() and not files:
            return
        turn = Turn("user", text, files)
        try:
            more = self._parameters.said()
            asked.check_room(self._turns, turn)
        except Wrong as why:
            ui.notify(str(why), type="warning")
            return
        request = asked.chat(self.model.id, self._parameters.system, [*self._turns, turn], more)
        self._text.set_value("")
        self._files.take()
        with self._log:
            self._empty.set_visibility(False)
            _shown(turn)
            answer = Answer(self.model.id)
        self._snippets.show(request)
        turns, found = self._turns, Reply(now())
        try:
            await answer.follow(self._edge, request, found)
        finally:  # also what was stopped was said; without an answer, the next turn is a new try
            if found.text or found.calls:
                turns += [turn, Turn("assistant", found.text)]


def _shown(turn: Turn) -> None:
    with ui.element("article").classes("hr-turn hr-user"):
        ui.label("You").classes("hr-who-said")
        if turn.text.strip():
            ui.label(turn.text).classes("hr-pre")
        for file in turn.files:
            _file(file)


def _file(file: File) -> None:
    if file.type in PICTURES.values():
        shown = ui.element("img").props(f'alt="{file.name}"').classes("hr-picture")
        shown.props["src"] = Inline(file, whole=True).text
    else:
        ui.label(f"Recording: {file.name}").classes("hr-soft")


class Answer:
    """One answer of a model in the conversation, as it grows."""

    def __init__(self, name: str) -> None:
        with ui.element("article").classes("hr-turn"):
            ui.label(name).classes("hr-who-said")
            self._thoughts = ui.expansion("Thoughts").classes("hr-thoughts")
            with self._thoughts:
                self._thought = ui.label().classes("hr-pre")
            self._thoughts.set_visibility(False)
            # What is rendered has no HTML of the model's; the browser's sanitizer is there as well.
            self._text = ui.html("", sanitize=True).classes("hr-answer")
            self._text.on("click", js_handler=_AWAY)
            self._calls = ui.element("div")
            self._state = ui.label("waits").classes("hr-soft").props("role=status")
            self._figures = ui.element("div")
            self._wrong = ui.element("div")
        self._next = 0.0
        self._rendered = ""

    async def follow(self, edge: Edge, request: asked.Asked, found: Reply) -> None:
        """Read the answer to `request` into `found` to its end, whatever that is."""
        stopped = True
        try:
            async with sent(edge, request) as answer:
                found.head(answer.headers)
                async for piece in answer.content.iter_any():
                    found.feed(piece, now())
                    self._grow(found)
                found.end(now())
            stopped = False
        except EdgeFault as fault:
            found.error, stopped = fault.told, False
        except sse.TooLong as fault:
            found.error, stopped = str(fault), False
        finally:
            if not self._state.is_deleted:
                self._end(found, stopped)

    def _grow(self, found: Reply) -> None:
        began = time.monotonic()
        if began < self._next:
            return
        self._show(found)
        took = time.monotonic() - began
        self._next = began + max(_OFTEN, took * _SHARE)

    def _show(self, found: Reply) -> None:
        if found.thoughts:
            self._thoughts.set_visibility(True)
            self._thought.set_text(found.thoughts)
        if found.text != self._rendered:
            self._rendered = found.text
            self._text.set_content(rendered(found.text))
        if found.first is None:
            self._state.set_text(found.place or "waits")
        else:
            self._state.set_text("thinks" if not found.text and found.thoughts else "answers")

    def _end(self, found: Reply, stopped: bool) -> None:
        self._show(found)
        self._state.set_text("stopped" if stopped else "")
        self._state.set_visibility(stopped)
        with self._calls:
            for name, arguments in found.calls.values():
                ui.label(f"calls {name}").classes("hr-strong")
                ui.label(arguments).classes("hr-pre hr-mono")
        with self._figures:
            figures(found.figures())
        with self._wrong:
            if found.error:
                parts.problem(found.error)
            if found.cut:
                parts.problem("The answer is longer than what is shown here.")

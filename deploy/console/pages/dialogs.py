"""Dialogs: each has a name for readers of screens, and is gone from the page once it is closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import EdgeFault


@contextmanager
def dialog(title: str, *, held: bool = False) -> Iterator[ui.dialog]:
    """An open dialog with a heading, to be filled in the block. `held`: only its own buttons close
    it."""
    with ui.dialog(value=True) as made, ui.card().classes("hr-dialog"):
        made.props["aria-label"] = title
        made.props.set_bool("persistent", held)
        made.on("hide", made.delete)
        parts.heading(title)
        yield made


async def sure(title: str, text: str, do: str, leave: str = "Cancel") -> bool:
    """Whether who looks means it. `do`, `leave`: what the buttons say."""
    with dialog(title) as asks:
        ui.label(text)
        with ui.element("div").classes("hr-row"):
            yes = ui.button(do, on_click=lambda: asks.submit(True), color="negative")
            yes.props("no-caps")
            no = ui.button(leave, on_click=lambda: asks.submit(False), color=None)
            no.props("flat no-caps autofocus")
    return await asks is True


class Stay(Exception):
    """The dialog is not done, and has said why."""


class Buttons:
    """The buttons below a question: `do` and away. What `do` raises is said above them, and the
    dialog stays."""

    def __init__(
        self,
        asks: ui.dialog,
        text: str,
        do: Callable[[], Awaitable[None]],
        colour: str = "primary",
    ) -> None:
        self._asks, self._do = asks, do
        self._wrong = ui.element("div")
        with ui.element("div").classes("hr-row"):
            self._button = ui.button(text, on_click=self._go, color=colour)
            ui.button("Leave", on_click=asks.close).props("flat")

    async def _go(self) -> None:
        await self.run(self._do)

    async def run(self, do: Callable[[], Awaitable[None]]) -> None:
        """Do something else in the place of `do`, with the same end."""
        self._wrong.clear()
        self._button.disable()
        try:
            await do()
        except EdgeFault as fault:
            self.say(fault.told)
        except Stay:
            pass
        except ValueError as why:
            self.say(str(why))
        else:
            self._asks.close()
        finally:
            self._button.enable()

    def say(self, text: str) -> ui.element:
        """Say what is wrong; where that stands."""
        with self._wrong:
            parts.problem(text)
        return self._wrong

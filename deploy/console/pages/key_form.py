"""The form of a key, and the one place where a secret is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from deploy.console.pages import policy
from deploy.console.pages.copying import copies
from deploy.console.pages.dialogs import Buttons, dialog
from schemas.keys import INFERENCE, SCOPES

Send = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Gets a name and the fields that were changed; raises EdgeFault."""
_FIELD = "outlined dense"


class KeyForm:
    """A dialog with the fields of a policy; it opens at once."""

    def __init__(
        self,
        title: str,
        action: str,
        before: policy.Form,
        send: Send,
        *,
        named: bool = False,
        used: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`named`: it asks for a name, too. `used`: of limits, so far."""
        self._before, self._send = before, send
        self._fields: dict[str, Any] = {}
        with dialog(title) as asks:
            self._name = self._text("name", "Name", hint="as in logs and usage") if named else None
            self._who()
            self._may()
            self._limits()
            if used:
                told = ", ".join(f"{what} {amount}" for what, amount in used)
                ui.label(f"Used by now: {told}").classes("hr-soft")
            Buttons(asks, action, self._go)

    def _who(self) -> None:
        self._text("account", "Account", hint="who pays")
        self._text("note", "Note", hint="whom it is for")
        self._text("expires", "Expires", hint="30d, 2027-01-31T12:00:00Z, or nothing: never")

    def _may(self) -> None:
        scopes = list(dict.fromkeys([*SCOPES, *self._before["scopes"]]))
        self._many("scopes", "Scopes", scopes, hint=f"also {INFERENCE}:/v1/… for one endpoint")
        self._many("models", "Models", (), hint="names or patterns as llama*; none: all")
        self._many("nodes", "Nodes", (), hint="names or patterns; none: all")
        lane = ui.select(dict(policy.LANES), label="Lane", value=self._before["lane"])
        self._fields["lane"] = lane.props(_FIELD).classes("hr-field")
        with ui.element("div").classes("hr-row"):
            for name, title in (
                ("local", "No provider sees its requests"),
                ("lenient", "Fields without effect pass"),
            ):
                self._fields[name] = ui.switch(title, value=self._before[name])

    def _limits(self) -> None:
        has = any(self._before[each.name] for each in policy.LIMITS)
        with (
            ui.expansion("Limits", value=has).classes("hr-wide"),
            ui.element("div").classes("hr-grid"),
        ):
            for limit in policy.LIMITS:
                hint = ", ".join(filter(None, (limit.hint, "nothing: no limit")))
                self._text(limit.name, limit.title, hint=hint, mode="decimal")
            self._text("weight", "Weight", hint="its share of a queue: 0.01 to 100; 1")

    def _text(self, name: str, title: str, *, hint: str = "", mode: str = "text") -> ui.input:
        made = ui.input(title, value=str(self._before.get(name, "")))
        made.props(f'{_FIELD} hint="{hint}" inputmode={mode} autocomplete=off').classes("hr-field")
        if name in self._before:
            self._fields[name] = made
        return made

    def _many(self, name: str, title: str, known: Sequence[str], *, hint: str) -> None:
        """Several texts: those that are known, and any other that is typed."""
        value = list(self._before[name])
        made = ui.select(
            list(known) or value,
            label=title,
            value=value,
            multiple=True,
            new_value_mode="add-unique",
        )
        made.props(f'{_FIELD} use-chips hint="{hint}"').classes("hr-field")
        self._fields[name] = made

    async def _go(self) -> None:
        """Raises EdgeFault, and ValueError without a name."""
        now = {name: field.value for name, field in self._fields.items()}
        name = "" if self._name is None else self._name.value.strip()
        if self._name is not None and not name:
            raise ValueError("Give it a name.")
        await self._send(name, policy.said(now, self._before))


def show_secret(name: str, secret: str) -> None:
    """This once. It is in the page of who made it until the dialog is closed, and nowhere else."""
    with dialog(f"The secret of {name}", held=True) as shows:
        ui.label("Keep it now: it is shown this once, and nobody can find it out again.")
        shown = ui.label(secret).classes("hr-mono hr-secret").props("data-secret")
        with ui.element("div").classes("hr-row"):
            copies(shown)
            ui.button("I have kept it", on_click=shows.close)

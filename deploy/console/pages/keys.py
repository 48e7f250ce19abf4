"""API keys: listed, made, changed, rotated and revoked, as ``headrace key`` does. Without the scope
`admin` the page shows the key that has signed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import EdgeFault, part
from deploy.console.pages import policy
from deploy.console.pages.dialogs import Buttons, dialog
from deploy.console.pages.key_form import KeyForm, show_secret
from deploy.console.pages.newest import Newest
from deploy.console.pages.plain_tables import table
from deploy.console.session import Session

_PATH = "/admin/keys"
_ROWS = 50
"""Keys on one page of the table."""
_TITLES: Mapping[str, str] = {
    "name": "name",
    "account": "account",
    "state": "state",
    "scopes": "scopes",
    "models": "models",
    "limits": "limits",
    "expires": "expires (UTC)",
    "note": "note",
}
_ACTIONS = """
<q-td :props="props" class="hr-actions">
  <q-btn flat round dense icon="edit" :aria-label="'Change ' + props.row.name"
    :disable="!props.row.live" @click="() => $parent.$emit('edit', props.row.name)"></q-btn>
  <q-btn flat round dense icon="autorenew" :aria-label="'Rotate ' + props.row.name"
    :disable="!props.row.live" @click="() => $parent.$emit('rotate', props.row.name)"></q-btn>
  <q-btn flat round dense icon="delete" :aria-label="'Revoke ' + props.row.name"
    :disable="!props.row.live" @click="() => $parent.$emit('revoke', props.row.name)"></q-btn>
</q-td>
"""


async def build(session: Session) -> None:
    await (Keys(session).load() if session.admin else _own(session))


async def _own(session: Session) -> None:
    with parts.card():
        parts.heading("Your key")
        try:
            found = await session.edge.get("/v1/key")
        except EdgeFault as fault:
            parts.problem(fault.told)
            return
        table(["what", "is"], policy.facts(found), label="Your key")
        ui.label("Keys of others are shown to keys with the scope 'admin'.").classes("hr-soft")


class Keys:
    """The table of all keys, and what can be done to each."""

    def __init__(self, session: Session) -> None:
        self._edge = session.edge
        self._loads = Newest()
        self._pages: dict[str, policy.Page] = {}
        with parts.card():
            with ui.element("div").classes("hr-row"):
                ui.button("New key", icon="add", on_click=self._make)
                self._find = ui.input("Find").props("outlined dense clearable type=search")
                self._gone = ui.switch("Revoked ones, too", on_change=lambda _: self.load())
            self._wrong = ui.element("div")
            self._table = self._made()
        self._dialogs = ui.element("div")

    def _made(self) -> ui.table:
        columns: list[dict[str, Any]] = [
            {"name": name, "label": title, "field": name, "align": "left", "sortable": True}
            for name, title in _TITLES.items()
        ]
        # Next to the name, so that it is seen on a phone.
        change = {"name": "actions", "label": "change", "field": "name", "align": "left"}
        columns.insert(1, change)
        made = ui.table(rows=[], columns=columns, row_key="name", pagination=_ROWS)
        made.props('flat wrap-cells table-class="hw-keys" loading').classes("hr-wide")
        made.props('no-data-label="No key yet: make one."')
        made.add_slot("body-cell-actions", _ACTIONS)
        made.bind_filter_from(self._find, "value")
        made.on("edit", lambda event: self._edit(event.args))
        made.on("rotate", lambda event: self._rotate(event.args))
        made.on("revoke", lambda event: self._revoke(event.args))
        return made

    async def load(self) -> None:
        is_newest = self._loads.ask()
        try:
            found = await self._edge.get(_PATH, revoked=self._gone.value)
        except EdgeFault as fault:
            if is_newest():
                self._end_loading(fault.told)
            return
        if not is_newest():
            return
        self._end_loading()
        self._pages = {page["name"]: page for page in found["data"]}
        self._table.rows = [policy.row(page) for page in found["data"]]
        self._table.update()

    def _end_loading(self, wrong: str = "") -> None:
        self._table.props(remove="loading")
        self._wrong.clear()
        if wrong:
            with self._wrong:
                parts.problem(wrong)

    def _make(self) -> None:
        async def send(name: str, said: Mapping[str, Any]) -> None:
            made = await self._edge.post(_PATH, {"name": name, **said})
            self._secret(made["name"], made["secret"])
            await self.load()

        KeyForm("New key", "Make it", policy.fresh(), send, named=True)

    async def _edit(self, name: str) -> None:
        try:
            page = await self._edge.get(f"{_PATH}/{part(name)}")
        except EdgeFault as fault:
            ui.notify(fault.told, type="negative")
            return

        async def send(_: str, said: Mapping[str, Any]) -> None:
            if said:
                await self._edge.patch(f"{_PATH}/{part(name)}", said)
                ui.notify(f"{name}: changed", type="positive")
                await self.load()

        KeyForm(f"Change {name}", "Change it", policy.form(page), send, used=policy.used(page))

    def _rotate(self, name: str) -> None:
        with dialog(f"Rotate {name}") as asks:
            ui.label("The key gets a new secret, which is shown once.")
            grace = ui.input("The old secret is good for another", value="1d")
            grace.props('outlined dense hint="as 1d, 12h, or 0"').classes("hr-field")

            async def rotate() -> None:
                said = {"grace": grace.value.strip() or "0"}
                made = await self._edge.post(f"{_PATH}/{part(name)}/rotate", said)
                self._secret(name, made["secret"])
                await self.load()

            Buttons(asks, "Rotate it", rotate)

    def _revoke(self, name: str) -> None:
        account = self._pages[name]["account"]
        with dialog(f"Revoke {name}?") as asks:
            ui.label(
                f"From now on the key {name!r} of the account {account!r} is unknown at every "
                "ingress. What it used stays in the sums. This cannot be undone."
            )

            async def revoke() -> None:
                await self._edge.delete(f"{_PATH}/{part(name)}")
                ui.notify(f"{name}: revoked", type="positive")
                await self.load()

            Buttons(asks, "Revoke it", revoke, "negative")

    def _secret(self, name: str, secret: str) -> None:
        with self._dialogs:
            show_secret(name, secret)

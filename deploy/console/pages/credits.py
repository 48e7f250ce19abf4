"""Credits of accounts: balances, what changed them, and grants. For admins."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from deploy.console import parts
from deploy.console.edge import Edge, EdgeFault, part
from deploy.console.pages import sums
from deploy.console.pages.dialogs import Buttons, Stay, dialog
from deploy.console.pages.newest import Newest
from deploy.console.pages.plain_tables import table
from deploy.console.session import Session
from deploy.money import decimal

Done = Callable[[], Awaitable[None]]
_LINES = 100
"""Of an account's ledger that are shown, the newest."""


class Credits:
    """A part of the page of usage."""

    def __init__(self, session: Session) -> None:
        self._edge = session.edge
        self._accounts: list[str] = []
        self._chosen: ui.select | None = None
        with parts.card():
            parts.heading("Credits")
            self._area = ui.element("div").classes("hr-column")
            with self._area:
                parts.loading()
        self._dialogs = ui.element("div")  # what `load` clears would take an open one along
        self._loads, self._ledgers = Newest(), Newest()

    async def load(self) -> None:
        is_newest = self._loads.ask()
        try:
            found = await self._edge.get("/admin/credits")
        except EdgeFault as fault:
            if not is_newest():
                return
            self._area.clear()
            with self._area:
                # Without providers nothing costs credits, and that is how most run it.
                none = fault.code == "no_worker"
                parts.empty(fault.message) if none else parts.problem(fault.told)
            return
        if is_newest():
            self._show(found["data"], found["currency"])

    def _show(self, balances: list[dict[str, Any]], currency: str) -> None:
        self._accounts = [each["account"] for each in balances]
        chosen = sums.still(self._account, self._accounts)
        self._area.clear()
        with self._area:
            if balances:
                rows = [
                    [each["account"], decimal(each["available"]), decimal(each["reserved"])]
                    for each in balances
                ]
                table(["account", f"available {currency}", "reserved"], rows, label="Balances")
                with ui.element("div").classes("hr-row"):
                    self._chosen = ui.select(
                        self._accounts,
                        label="Ledger of",
                        value=chosen,
                        on_change=lambda _: self._history(),
                    ).props("outlined dense options-dense")
                self._lines = ui.element("div")
                ui.timer(0, self._history, once=True)
            else:
                parts.empty("No account was granted anything yet.")
            ui.button("Grant credits", on_click=lambda: self._granting(currency)).props("outline")

    @property
    def _account(self) -> str:
        """Whose ledger was chosen last."""
        return "" if self._chosen is None else str(self._chosen.value or "")

    async def _history(self) -> None:
        """The newest lines of the ledger of the account that was chosen."""
        account = self._account
        is_newest = self._ledgers.ask()
        try:
            found = await self._edge.get(f"/admin/credits/{part(account)}/history", limit=_LINES)
        except EdgeFault as fault:
            if is_newest():
                self._lines.clear()
                with self._lines:
                    parts.problem(fault.told)
            return
        if not is_newest():
            return
        self._lines.clear()
        with self._lines:
            lines = [sums.entry(each) for each in reversed(found["data"])]
            titles = ["time (UTC)", "what", "change", "balance", "about", "job"]
            names = ("at", "kind", "change", "balance", "about", "job")
            table(titles, [[line[name] for name in names] for line in lines], label="Ledger")

    def _granting(self, currency: str) -> None:
        with self._dialogs:
            Grant(self._edge, self._accounts, currency, self.load)


class Grant:
    """The form of a grant. Its id is made with it, so that two clicks grant once."""

    def __init__(self, edge: Edge, accounts: list[str], currency: str, done: Done) -> None:
        self._edge, self._done = edge, done
        self._id = f"console-{secrets.token_hex(12)}"
        with dialog("Grant credits") as self._asks:
            self._account = ui.input("Account", autocomplete=accounts)
            self._amount = ui.input(f"Amount in {currency}", placeholder="12.50")
            self._note = ui.input("Note")
            for field in (self._account, self._amount, self._note):
                field.props("outlined dense").classes("hr-field")
            ui.label("A negative amount takes back what is left.").classes("hr-soft")
            self._buttons = Buttons(self._asks, "Grant", self._grant)

    async def _grant(self, *, create: bool = False) -> None:
        """Raises EdgeFault, and ValueError without an account."""
        account = self._account.value.strip()
        said = {"amount": self._amount.value.strip(), "note": self._note.value, "id": self._id}
        if not account:
            raise ValueError("Name an account.")
        path = f"/admin/credits/{part(account)}/grants"
        try:
            found = await self._edge.post(path, {**said, "create": create})
        except EdgeFault as fault:
            if fault.param != "create":
                raise
            self._ask(account)  # no key has it, so it may be mistyped
            raise Stay from None
        available = decimal(found["data"]["available"])
        ui.notify(f"{account}: {available} {found['currency']}", type="positive")
        await self._done()

    def _ask(self, account: str) -> None:
        async def create() -> None:
            await self._grant(create=True)

        with self._buttons.say(f"No key has the account {account!r}. Grant it all the same?"):
            ui.button("Grant it all the same", on_click=lambda: self._buttons.run(create))

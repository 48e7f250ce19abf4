"""Nodes: who is here, invited, drained or evicted, and what is done to them."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from deploy.console import frame, parts
from deploy.console.pages import node_rows
from deploy.console.pages.copying import copies
from deploy.console.pages.dialogs import sure
from deploy.console.roll import Roll, RollFault
from deploy.console.session import Session, is_still_good
from deploy.nodes.changes import INVITE, Outcome
from deploy.nodes.listing import Row
from schemas import registry
from schemas.keys import ADMIN

EACH = 3.0
"""Seconds between two looks."""
_COLUMNS = [
    {"name": name, "label": label, "field": name, "align": "left"}
    for name, label in (
        ("name", "Name"),
        ("state", "State"),
        ("actions", "Actions"),
        ("role", "Role"),
        ("since", "Since"),
        ("models", "Models"),
        ("version", "Version"),
        ("labels", "Labels"),
        ("how", "How"),
    )
]
_STATE = '<q-td :props="props"><span :class="props.row.tone">{{ props.value }}</span></q-td>'
_ACTIONS = """<q-td :props="props"><div class="hr-row no-wrap">
<q-btn v-for="each in props.row.actions" :key="each.verb" dense flat no-caps color="primary"
  :label="each.label" :aria-label="each.label + ' ' + props.row.name"
  @click="$parent.$emit('act', {verb: each.verb, name: props.row.name})" />
</div></q-td>"""
_SPANS = {"30m": "30 minutes", "1h": "1 hour", "1d": "1 day", "7d": "7 days"}


class Nodes:
    def __init__(self, roll: Roll) -> None:
        self._roll = roll

    async def build(self, session: Session) -> None:
        if not parts.denied(session, ADMIN):
            _Page(self._roll, session)


class _Page:
    """What one who looks at it sees."""

    def __init__(self, roll: Roll, session: Session) -> None:
        self._roll = roll
        self._session = session
        self._rows: list[dict[str, Any]] | None = None
        with parts.card():
            parts.heading("Invite a machine")
            self._invitation()
        with parts.card():
            parts.heading("All nodes")
            self._said = ui.label("Loading …").classes("hr-empty").props("role=status")
            self._table = ui.table(columns=_COLUMNS, rows=[], row_key="id", pagination=0)
            self._table.props("flat hide-pagination wrap-cells").classes("hr-table")
            self._table.add_slot("body-cell-state", _STATE)
            self._table.add_slot("body-cell-actions", _ACTIONS)
            self._table.on("act", lambda event: self._act(event.args["verb"], event.args["name"]))
            self._table.set_visibility(False)
        frame.every(EACH, self._look)

    async def _look(self) -> None:
        survey = self._session.feed.survey
        try:
            found = await self._roll.rows(survey.cards if survey else ())
        except RollFault as fault:
            self._rows = None  # so that the same rows, once they are back, take its place
            self._say(str(fault))
            return
        self._show(found)

    def _show(self, found: list[Row]) -> None:
        rows = node_rows.table(found)
        if rows == self._rows:
            return
        self._rows = rows
        self._table.rows = rows
        self._table.set_visibility(bool(rows))
        nobody = "No node is here: start a worker, or invite a machine."
        self._say(node_rows.cut(found) if rows else nobody)

    def _say(self, text: str) -> None:
        self._said.set_text(text)
        self._said.set_visibility(bool(text))

    async def _act(self, verb: str, name: str) -> None:
        """What a button of a row does."""
        if verb not in node_rows.LABELS:
            return
        question = node_rows.QUESTIONS.get(verb, "").format(name=name)
        label = node_rows.LABELS[verb]
        if question and not await sure(f"{label} {name}?", question, label):
            return
        outcome = await self._asked(verb, name)
        if outcome is not None:
            ui.notify(outcome.said, type="negative" if outcome.failed else "positive")
            await self._look()

    async def _asked(self, verb: str, name: str, **said: Any) -> Outcome | None:
        # The hub answers the console itself, so nobody else looks whether the key may still do it.
        if not await is_still_good(self._session):
            ui.notify("Your key may not do this any more: sign in again.", type="negative")
            return None
        try:
            return await self._roll.change(verb, name, self._session.name, **said)
        except RollFault as fault:
            ui.notify(str(fault), type="negative")
            return None

    def _invitation(self) -> None:
        with ui.element("div").classes("hr-row hr-form"):
            name = ui.input("Name of the machine").props("outlined dense")
            models = ui.input("Models, as llama*, qwen3 (none: all)").props("outlined dense")
            roles = list(registry.ROLES)
            role = ui.select(roles, value=registry.WORKER, label="Role").props("outlined dense")
            span = ui.select(_SPANS, value="1h", label="Good for").props("outlined dense")
            button = ui.button("Invite").props("no-caps")
        place = ui.element("div").classes("hr-told")

        async def invite() -> None:
            if not button.enabled:  # Enter in a field does not heed it, and two are two invitations
                return
            button.disable()
            said = {"models": _globs(models.value), "role": role.value, "expires": span.value}
            try:
                outcome = await self._asked(INVITE, name.value.strip(), **said)
            finally:
                button.enable()
            if outcome is not None:
                place.clear()
                with place:
                    _told(outcome, _SPANS[span.value])
                await self._look()

        button.on_click(invite)
        name.on("keydown.enter", invite)


def _told(outcome: Outcome, span: str) -> None:
    if outcome.failed:
        parts.problem(outcome.said)
        return
    ui.label(
        f"{outcome.said}. Run this there; it works once, within {span}, and is a secret until then:"
    ).props("role=status")
    with ui.element("div").classes("hr-row"):
        copies(ui.label(outcome.token).classes("hr-mono hr-join"))


def _globs(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text.strip() else []

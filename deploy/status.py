"""``headrace status``: what runs and what waits, as tables or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.survey import Queue, Survey, Surveyor, connected
from schemas import subjects
from schemas.bus import BusError
from schemas.frames import Role
from schemas.nodes import Card
from schemas.settings import Nats

REFRESH = 1.0
"""Seconds between two looks of ``--watch``."""
WIDTH = 140
"""Columns when the output is no terminal."""

_STATES = {
    "ready": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "stopped": "dim",
    "failed": "red",
}
_LANES = {subjects.INTERACTIVE: "interactive", subjects.BATCH: "batch", subjects.CLOUD: "providers"}


def console() -> Console:
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


async def show(settings: Nats, *, watch: bool, as_json: bool) -> None:
    """Print once, or each second until it is cancelled. Raises Unreachable or BusError."""
    out = console()
    async with connected(settings, "headrace-status") as bus:
        surveyor = Surveyor(bus, settings.shown)
        await surveyor.gather()
        if not watch:
            survey = await surveyor.look()
            print(_json(survey)) if as_json else out.print(render(survey))
        elif as_json:
            await _repeat(surveyor, lambda survey: print(_json(survey), flush=True))
        else:
            with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
                await _repeat(surveyor, lambda s: live.update(render(s), refresh=True))


async def _repeat(surveyor: Surveyor, use: Callable[[Survey], None]) -> None:
    """Look again and again. While the broker is away, the last picture stays."""
    while True:
        with contextlib.suppress(BusError):
            use(await surveyor.look())
        await asyncio.sleep(REFRESH)


def _json(survey: Survey) -> str:
    return orjson.dumps(survey).decode()


def render(survey: Survey) -> RenderableType:
    parts: list[RenderableType] = [_head(survey)]
    workers = tuple(card for card in survey.cards if card.role != Role.FALLBACK)
    fallbacks = tuple(card for card in survey.cards if card.role == Role.FALLBACK)
    if workers:
        parts += [_nodes("Workers", workers), _engines("Engines", workers)]
    else:
        parts.append(Text("No worker is connected: start one with 'headrace worker'.", "yellow"))
    if fallbacks:
        parts += [_nodes("Fallbacks", fallbacks), _engines("Providers", fallbacks)]
    if rows := list(_models(survey)):
        parts.append(table(_MODEL_COLUMNS, rows, "Models"))
    if sum(survey.dead.values()):
        parts.append(Text("There are dead letters: 'headrace doctor' tells their errors.", "red"))
    return Group(*parts)


def _head(survey: Survey) -> Text:
    text = Text.assemble(
        ("broker  ", "dim"), survey.broker, (f"  nats-server {survey.version}\n", "dim")
    )
    text.append("ingress ", "dim")
    if survey.ingresses:
        text.append(", ".join(f"http://{seen.address}" for seen in survey.ingresses))
    else:
        text.append("none is connected: start one with 'headrace ingress'", "yellow")
    return text


def stamp(at: float) -> str:
    """A moment (Unix seconds) as UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds").removesuffix("+00:00")


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], title: str = "") -> Table:
    """A table. Columns whose names begin with ``>`` hold numbers."""
    found = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        found.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return found


def _nodes(title: str, cards: tuple[Card, ...]) -> Table:
    now = time.time()
    rows = (
        (
            card.node,
            card.holder,
            Text("draining", "yellow") if card.draining else Text("serving", "green"),
            card.jobs,
            sum(engine.slots for engine in card.engines),
            span(now - card.started),
            card.version,
        )
        for card in cards
    )
    columns = ("node", "holder", "state", ">jobs", ">slots", ">up for", "version")
    return table(columns, rows, title)


def _engines(title: str, cards: tuple[Card, ...]) -> Table:
    rows = (
        (
            card.node,
            engine.name,
            engine.kind,
            Text(engine.state, _STATES.get(engine.state, "")),
            engine.slots,
            engine.busy,
            Text(engine.reason),
        )
        for card in cards
        for engine in card.engines
    )
    # The title is in the plural, the column in the singular.
    columns = ("node", title[:-1].lower(), "kind", "state", ">slots", ">busy", "reason")
    return table(columns, rows, title)


_MODEL_COLUMNS = (
    *("model", "lane", ">holders", ">slots", ">busy"),
    *(">waiting", ">in flight", ">oldest wait", ">retried", ">dead"),
)


def _models(survey: Survey) -> Iterable[tuple[Any, ...]]:
    workers = [card for card in survey.cards if card.role != Role.FALLBACK]
    served = {model.id for card in workers for model in card.models}
    empty = [  # served, and the broker has neither a consumer nor a job of them yet
        Queue(model, subjects.INTERACTIVE, 0, 0, 0, None, 0, served=False)
        for model in served - {queue.model for queue in survey.queues}
    ]
    for queue in sorted([*survey.queues, *empty], key=lambda each: (each.model, each.lane)):
        yield _row(survey, queue)


def _row(survey: Survey, queue: Queue) -> tuple[Any, ...]:
    paid = queue.lane == subjects.CLOUD
    holders = [card for card in survey.cards if (card.role == Role.FALLBACK) == paid]
    cards = [card for card in holders if any(m.id == queue.model for m in card.models)]
    engines = [engine for card in cards for engine in card.serving(queue.model)]
    dead = survey.dead.get(queue.model, 0)
    return (
        queue.model,
        _LANES.get(queue.lane, queue.lane),
        len(cards) or Text("none", "yellow"),
        sum(engine.slots for engine in engines),
        sum(engine.busy for engine in engines),
        Text(str(queue.waiting), "yellow" if queue.waiting else ""),
        queue.in_flight,
        "–" if queue.oldest is None else span(queue.oldest),
        queue.retried,
        Text(str(dead), "red" if dead else ""),
    )


def span(seconds: float) -> str:
    """``0.3 s``, ``42 s``, ``5 min 3 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for unit, name, smaller, small in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {small}"
    return f"{whole} s"

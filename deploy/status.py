"""``headrace status``: what runs and what waits, as tables or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
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

from deploy.served import Served, pace, served
from deploy.survey import Survey, Surveyor, addresses, connected
from schemas import subjects
from schemas.bus import BusError
from schemas.frames import Role
from schemas.nodes import Card
from schemas.settings import Nats

REFRESH = 1.0
"""Seconds between two looks of ``--watch``."""
WIDTH = 140
"""Columns when the output is no terminal."""
ACCOUNTS = 30
"""Most rows of who waits; with ``--json`` there are all."""

_STATES = {
    "ready": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "stopped": "dim",
    "failed": "red",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Who reads has read enough, as `head` does. rich would end the process from within the
        event loop, with what runs there in pieces; typer ends quietly with this fault."""
        self.quiet = True
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    found = _Console(highlight=False)
    return found if found.is_terminal else _Console(highlight=False, width=WIDTH)


async def show(settings: Nats, *, watch: bool, as_json: bool) -> None:
    """Print once, or each second until it is cancelled. Raises Unreachable or BusError."""
    out = console()
    async with connected(settings, "headrace-status", subjects.INBOX_MONITOR) as bus:
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


async def show_pages(settings: Nats) -> None:
    """Print where all pages of metrics are, as Prometheus' `file_sd_configs` reads it. Raises
    Unreachable or BusError."""
    async with connected(settings, "headrace-status", subjects.INBOX_MONITOR) as bus:
        surveyor = Surveyor(bus, settings.shown)
        await surveyor.gather()
        print(orjson.dumps(pages(await surveyor.look()), option=orjson.OPT_INDENT_2).decode())


def pages(survey: Survey) -> list[dict[str, Any]]:
    """One entry for each process that has a page; one for the processes that share an address."""
    found = dict[str, dict[str, str]]()
    for seen in survey.ingresses:
        found.setdefault(seen.address, {"role": "ingress", "node": ""})
    for card in survey.cards:
        if card.metrics:
            address = card.metrics.removeprefix("http://").removesuffix("/metrics")
            found[address] = {"role": card.role, "node": card.node}
    return [{"targets": [address], "labels": labels} for address, labels in sorted(found.items())]


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
        parts += [_nodes("Workers", workers), _engines("Engines", workers), *_reasons(workers)]
    else:
        parts.append(Text("No worker is connected: start one with 'headrace worker'.", "yellow"))
    if labels := _labels(workers):
        parts.append(table(("node", "labels"), labels, "Labels"))
    if survey.absent:
        parts.append(table(("node", "state", "since (UTC)"), _absent(survey), "Without jobs"))
    if fallbacks:
        parts += [_nodes("Fallbacks", fallbacks), _engines("Providers", fallbacks)]
        parts += _reasons(fallbacks)
    if rows := list(_models(survey)):
        models = _narrow(table(_MODEL_COLUMNS, rows, "Models"))
        models.columns[1].min_width = len(subjects.LANES[subjects.INTERACTIVE])
        parts.append(models)
    if survey.waiting:
        parts.append(table(_ACCOUNT_COLUMNS, _accounts(survey), "Waiting by account"))
    if sum(survey.dead.values()):
        parts.append(Text("There are dead letters: 'headrace doctor' tells their errors.", "red"))
    return Group(*parts)


def _head(survey: Survey) -> Text:
    text = Text.assemble(
        ("broker  ", "dim"), survey.broker, (f"  nats-server {survey.version}\n", "dim")
    )
    text.append("ingress ", "dim")
    if survey.ingresses:
        text.append(", ".join(addresses(survey.ingresses)))
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
        found.add_row(*(cell if isinstance(cell, Text) else plain(str(cell)) for cell in row))
    return found


def _narrow(found: Table, giving: int = 2) -> Table:
    """The same within 80 columns: only the first columns, with names of models and nodes, give way,
    by breaking their texts. `giving`: how many."""
    found.padding, found.pad_edge = (0, 0, 0, 0), False
    for column in found.columns[:giving]:
        column.overflow = "fold"
    for column in found.columns[giving:]:
        column.no_wrap = True
    return found


def plain(text: str) -> Text:
    """A text that clients may have written: no markup, and nothing that a terminal obeys."""
    return Text(text if text.isprintable() else text.encode("unicode_escape").decode())


def _nodes(title: str, cards: tuple[Card, ...]) -> Table:
    now = time.time()
    rows = (
        (
            card.node,
            card.holder.partition(".")[2],
            Text("draining", "yellow") if card.draining else Text("serving", "green"),
            card.jobs,
            sum(engine.slots for engine in card.engines),
            span(now - card.started),
            card.version,
            card.metrics.removeprefix("http://").removesuffix("/metrics") or "–",
        )
        for card in cards
    )
    columns = ("node", "process", "state", ">jobs", ">slots", ">up for", "version", "metrics at")
    return _narrow(table(columns, rows, title), giving=1)


def _reasons(cards: tuple[Card, ...]) -> list[Text]:
    """Why engines are not well: too long for a table."""
    return [
        Text.assemble((f"{engine.name} on {card.node}: ", "bold"), plain(engine.reason))
        for card in cards
        for engine in card.engines
        if engine.reason
    ]


def _labels(cards: tuple[Card, ...]) -> list[tuple[str, str]]:
    """Of the nodes that have some."""
    found: dict[str, set[str]] = {}
    for card in cards:
        if card.labels:
            found.setdefault(card.node, set()).update(card.labels)
    return [(node, " ".join(sorted(has))) for node, has in sorted(found.items())]


def _engines(title: str, cards: tuple[Card, ...]) -> Table:
    paced = any(served.token_us or served.request_us for card in cards for served in card.models)
    rows = (
        (
            card.node,
            engine.name,
            engine.kind,
            Text(engine.state, _STATES.get(engine.state, "")),
            engine.slots,
            engine.busy,
            *((pace(card, engine.name),) if paced else ()),
        )
        for card in cards
        for engine in card.engines
    )
    # The title is in the plural, the column in the singular.
    columns = ["node", title[:-1].lower(), "kind", "state", ">slots", ">busy"]
    return _narrow(table([*columns, *([">pace"] if paced else [])], rows, title))


def _absent(survey: Survey) -> Iterable[tuple[Any, ...]]:
    for row in survey.absent:
        yield row.name, Text(row.state, "yellow"), stamp(row.since) if row.since else ""


_MODEL_COLUMNS = (
    *("model", "lane", ">holders", ">slots", ">busy"),
    *(">waiting", ">running", ">oldest", ">retried", ">dead"),
)


def _models(survey: Survey) -> Iterable[tuple[Any, ...]]:
    return map(_row, served(survey))


_ACCOUNT_COLUMNS = ("model", "lane", "account", ">waiting", ">oldest wait")


def _accounts(survey: Survey) -> Iterable[tuple[Any, ...]]:
    for row in survey.waiting[:ACCOUNTS]:
        yield row.model, subjects.lane_name(row.lane), row.account, row.waiting, span(row.oldest)
    if more := survey.waiting[ACCOUNTS:]:
        yield "…", "", f"and {len(more)} more", sum(row.waiting for row in more), ""


def _row(each: Served) -> tuple[Any, ...]:
    queue = each.queue
    return (
        queue.model,
        subjects.lane_name(queue.lane),
        each.holders or Text("none", "yellow"),
        each.slots,
        each.busy,
        Text(str(queue.waiting), "yellow" if queue.waiting else ""),
        queue.in_flight,
        "–" if queue.oldest is None else span(queue.oldest),
        queue.retried,
        Text(str(each.dead), "red" if each.dead else ""),
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

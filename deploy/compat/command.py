"""``headrace compat``: asks a running ingress for its live compatibility matrix, and prints it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from deploy import edge
from deploy.compat.run import CELL
from deploy.configure import CommandFailed, Where
from deploy.status import console
from schemas.api import sse

Shape = Literal["table", "json", "markdown"]
Found = dict[str, Any]
"""The document of ``GET /v1/compat``."""

Mark = tuple[str, int]
"""(the answer, the number of its reason or 0 for a yes)."""
Row = tuple[str, list[Mark]]
"""(title, one cell for each model)."""

_COLOURS = {"yes": "green", "partial": "yellow", "no": "red"}
_SILENCE = 300.0
"""Seconds without a cell after which the ingress counts as gone; no probe takes as long."""


class CompatFailed(CommandFailed):
    """There is no table; the message says why, and what to do."""


async def show(
    where: Where, url: str | None, key: str | None, model: str | None, shape: Shape
) -> None:
    """Raises CompatFailed, NoEdge, Unreachable, SettingsError or BusError."""
    found = await fetch(await edge.address(where, url), edge.key(where, url, key), model)
    match shape:
        case "json":
            print(orjson.dumps(found).decode())
        case "markdown":
            print(markdown(found), end="")
        case "table":
            console().print(render(found))


async def fetch(address: str, key: str, model: str | None) -> Found:
    """The table, with its progress shown meanwhile. Raises CompatFailed, NoEdge."""
    headers, query = {"accept": sse.CONTENT_TYPE}, {"model": model} if model else {}
    async with (
        edge.asking(address, key, _SILENCE) as session,
        session.get(f"{address}/v1/compat", params=query, headers=headers) as answer,
    ):
        if answer.status != 200:
            raise CompatFailed(_told(address, answer.status, await answer.read()))
        return await _table(answer.content.iter_any())


async def _table(chunks: AsyncIterator[bytes]) -> Found:
    """Read the events: cells, which move a progress bar, and then the table."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    err = Console(stderr=True)
    splitter = sse.Splitter()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("probing", total=None)
        async for chunk in chunks:
            for event in sse.objects(splitter.feed(chunk)):
                if event["object"] != CELL:  # the table, which is the last event
                    return event
                told = f"{event['model']}: {event['row']}"
                progress.update(bar, completed=event["done"], total=event["of"], description=told)
    raise CompatFailed("the ingress ended its answer before the table was whole")


def _told(address: str, status: int, body: bytes) -> str:
    with contextlib.suppress(orjson.JSONDecodeError, LookupError, TypeError):
        return f"{address}: {status}: {orjson.loads(body)['error']['message']}"
    return f"{address}: {status}: that is no Headrace of this version"


def _numbered(found: Found) -> tuple[list[Row], list[str]]:
    """The rows, and the reasons below them; the same reason has the same number everywhere."""
    numbers: dict[str, int] = {}

    def mark(cell: Found) -> Mark:
        if cell["answer"] == "yes":
            return "yes", 0
        return cell["answer"], numbers.setdefault(cell["reason"], len(numbers) + 1)

    models = [model["id"] for model in found["models"]]
    rows = [
        (row["title"], [mark(row["cells"][model]) for model in models]) for row in found["rows"]
    ]
    return rows, list(numbers)


def render(found: Found) -> RenderableType:
    if not found["models"]:
        return Text("No model is served: start a worker with 'headrace worker'.", "yellow")
    table = Table(box=box.SIMPLE_HEAD, title="What was seen", title_justify="left")
    table.add_column("")
    for model in found["models"]:
        table.add_column(f"{model['id']}\n{', '.join(model['engines'])}", overflow="fold")
    rows, reasons = _numbered(found)
    for title, marks in rows:
        table.add_row(title, *(_coloured(*mark) for mark in marks))
    return Group(table, *(Text(f"{number:3}  {why}") for number, why in enumerate(reasons, 1)))


def _coloured(answer: str, number: int) -> Text:
    text = Text(answer, _COLOURS[answer])
    return text.append(f" {number}", "dim") if number else text


def markdown(found: Found) -> str:
    """The table, the reason of every "no" and "partial", and what a "yes" rests on."""
    when = datetime.fromtimestamp(found["created"], UTC)
    rows, reasons = _numbered(found)
    models = [f"{_escaped(each['id'])} ({', '.join(each['engines'])})" for each in found["models"]]
    lines = [
        f"Seen by Headrace {found['version']} on {when:%Y-%m-%d, %H:%M} UTC.\n",
        f"| row | {' | '.join(models)} |",
        "| --- " * (len(models) + 1) + "|",
    ]
    for title, marks in rows:
        words = (f"{answer} ({number})" if number else answer for answer, number in marks)
        lines.append(f"| {_escaped(title)} | {' | '.join(words)} |")
    if reasons:
        lines.append("\n## Why not")
        lines += (f"{number}. {_escaped(why)}" for number, why in enumerate(reasons, 1))
    lines.append("\n## What a yes rests on")
    lines += (f"- **{_escaped(row['title'])}**: {_escaped(row['proof'])}." for row in found["rows"])
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """`text` with Markdown's own signs escaped."""
    return re.sub(r"[\\|<*_`[]", r"\\\g<0>", text)

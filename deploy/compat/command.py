"""``headrace compat``: asks a running ingress for its live compatibility matrix, and prints it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from deploy import home, survey
from deploy.compat.table import CELL
from deploy.plan import ANYWHERE
from deploy.screen import KEY_VARIABLE
from deploy.status import console
from deploy.survey import Surveyor, connected
from schemas.settings import load

Shape = Literal["table", "json", "markdown"]
Found = dict[str, Any]
"""The document of ``GET /v1/compat``."""

_COLOURS = {"yes": "green", "partial": "yellow", "no": "red"}
_SILENCE = 300.0
"""Seconds without a cell after which the ingress counts as gone; no probe takes as long."""


class CompatFailed(Exception):
    """There is no table; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Where:
    """How to find an ingress, and how to be let in."""

    data: Path
    config: Path | None
    nats: str | None
    url: str | None
    key: str | None


async def show(where: Where, model: str | None, shape: Shape) -> None:
    """Raises CompatFailed, Unreachable, SettingsError or BusError."""
    found = await fetch(await _address(where), _key(where), model)
    match shape:
        case "json":
            print(orjson.dumps(found).decode())
        case "markdown":
            print(markdown(found), end="")
        case "table":
            console().print(render(found))


async def fetch(address: str, key: str, model: str | None) -> Found:
    """The table, with its progress shown meanwhile. Raises CompatFailed."""
    query = f"?{urlencode({'model': model})}" if model else ""
    headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
    limit = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=_SILENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, read_bufsize=2**24) as session,
            session.get(f"{address}/v1/compat{query}", headers=headers) as answer,
        ):
            if answer.status != 200:
                raise CompatFailed(_told(address, answer.status, await answer.read()))
            return await _watched(_events(answer))
    except (aiohttp.ClientError, TimeoutError) as fault:
        raise CompatFailed(f"{address}: {fault or 'no answer'}. Name an ingress by --url") from None


async def _watched(events: AsyncIterator[Found]) -> Found:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    err = Console(stderr=True)
    hidden = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=hidden) as progress:
        bar = progress.add_task("probing", total=None)
        async for event in events:
            if event["object"] != CELL:
                return event
            told = f"{event['model']}: {event['row']}"
            progress.update(bar, completed=event["done"], total=event["of"], description=told)
    raise CompatFailed("the ingress ended its answer before the table was whole")


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Found]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield orjson.loads(line[6:])


def _told(address: str, status: int, body: bytes) -> str:
    with contextlib.suppress(orjson.JSONDecodeError, LookupError, TypeError):
        return f"{address}: {status}: {orjson.loads(body)['error']['message']}"
    return f"{address}: {status}: that is no Headrace of this version"


async def _address(where: Where) -> str:
    """--url, else the first ingress that is connected to the broker."""
    if where.url:
        return where.url.rstrip("/").removesuffix("/v1")
    login = survey.login(where.data, where.config, where.nats)
    async with connected(login, "headrace-compat") as bus:
        surveyor = Surveyor(bus, login.shown)
        await surveyor.open()
        await surveyor.gather()
        seen = (await surveyor.look()).ingresses
    if not seen:
        raise CompatFailed("no ingress is connected: start one with 'headrace ingress'")
    host, _, port = seen[0].address.rpartition(":")
    return f"http://{ANYWHERE.get(host.strip('[]'), host)}:{port}"


def _key(where: Where) -> str:
    """--key; here, a key of the configuration or this user's own; else that of OpenAI's clients."""
    if where.key:
        return where.key
    if not where.url:
        for known in load(where.config).keys:
            return known.secret.get_secret_value()
        if (where.data / home.KEY_FILE).is_file():
            return home.own_key(where.data)
    if key := os.environ.get(KEY_VARIABLE):
        return key
    raise CompatFailed(f"no API key is known: give one with --key, or in ${KEY_VARIABLE}")


class Notes:
    """Reasons under a table; the same one has the same number everywhere."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def number(self, cell: Found) -> int:
        """0 for a yes, which needs none."""
        if cell["answer"] == "yes":
            return 0
        return self.reasons.setdefault(cell["reason"], len(self.reasons) + 1)


def render(found: Found) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title="What was seen", title_justify="left")
    table.add_column("")
    for model in found["models"]:
        table.add_column(f"{model['id']}\n{', '.join(model['engines'])}", overflow="fold")
    notes = Notes()
    for row in found["rows"]:
        cells = (row["cells"][model["id"]] for model in found["models"])
        table.add_row(row["title"], *(_coloured(cell, notes.number(cell)) for cell in cells))
    if not found["models"]:
        return Text("No model is served: start a worker with 'headrace worker'.", "yellow")
    reasons = (Text(f"{number:3}  {why}") for why, number in notes.reasons.items())
    return Group(table, *reasons)


def _coloured(cell: Found, number: int) -> Text:
    text = Text(cell["answer"], _COLOURS[cell["answer"]])
    return text.append(f" {number}", "dim") if number else text


def markdown(found: Found) -> str:
    """The table, the reason of every "no" and "partial", and what a "yes" rests on."""
    when = datetime.fromtimestamp(found["created"], UTC)
    seen = f"Seen by Headrace {found['version']} on {when:%Y-%m-%d, %H:%M} UTC."
    proofs = ["## What a yes rests on", *_proofs(found)]
    return "\n".join([seen, "", *_table(found), "", *proofs, ""])


def _table(found: Found) -> Iterator[str]:
    models, notes = found["models"], Notes()
    heads = [f"{_escaped(each['id'])} ({', '.join(each['engines'])})" for each in models]
    yield f"| row | {' | '.join(heads)} |"
    yield "| --- " * (len(models) + 1) + "|"
    for row in found["rows"]:
        cells = (row["cells"][each["id"]] for each in models)
        words = (_numbered(cell["answer"], notes.number(cell)) for cell in cells)
        yield f"| {_escaped(row['title'])} | {' | '.join(words)} |"
    if notes.reasons:
        yield "\n## Why not"
        yield from (f"{number}. {_escaped(why)}" for why, number in notes.reasons.items())


def _proofs(found: Found) -> Iterator[str]:
    for row in found["rows"]:
        yield f"- **{_escaped(row['title'])}**: {_escaped(row['proof'])}."


def _numbered(word: str, number: int) -> str:
    return f"{word} ({number})" if number else word


def _escaped(text: str) -> str:
    """No part of it is taken for Markdown's own."""
    for sign in "\\|<*_`[":
        text = text.replace(sign, f"\\{sign}")
    return text

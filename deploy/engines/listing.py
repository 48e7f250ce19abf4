"""``headrace engine list``: engines of the settings, how they stand, and what else runs here."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
from rich.table import Table

from deploy.configure import CommandFailed, Where
from deploy.engines import config_file, found
from deploy.engines.found import Found
from deploy.nodes import kept
from deploy.plan import own_command
from deploy.status import console, plain, table
from deploy.survey import cards, connected
from schemas.bus import BusError
from schemas.frames import Role
from schemas.nodes import Card
from schemas.settings import Engine, Settings

_AWAY = "not running"
_ELSEWHERE = "(not in the settings)"
_CONFIGURED = ("engine", "kind", "at", "state", ">slots", "models")
_FOUND = ("found at", "kind", "program", "models", "configured")


@dataclass(frozen=True, slots=True)
class Row:
    """One engine of this machine's workers. `at`: where it is, or what starts it. `listed`: it is
    in the settings, and not only on a worker's command line."""

    name: str
    kind: str
    at: str
    state: str
    reason: str = ""
    slots: int = 0
    models: tuple[str, ...] = ()
    listed: bool = True


async def show_all(where: Where, as_json: bool) -> None:
    where = placed(where)
    settings = where.settings()
    seen, running = await _cards(where), await found.look()
    listed = rows(settings.engines, [each for each in seen if each.node == _node(where, settings)])
    if as_json:
        new = found.new(running, settings.engines)
        told = [{**asdict(each), "configured": each not in new} for each in running]
        file = str(where.config) if where.config else ""
        about = {"config": file, "engines": [asdict(row) for row in listed], "found": told}
        print(orjson.dumps(about).decode())
        return
    _print(where, listed, running, settings.engines)


def placed(where: Where) -> Where:
    """With the file that is meant where none is named, if there is one."""
    if where.config is None and config_file.DEFAULT.is_file():
        return replace(where, config=config_file.DEFAULT)
    return where


def rows(engines: Iterable[Engine], seen: Sequence[Card]) -> list[Row]:
    """Engines of the settings, then those that only workers have; `seen` are the cards of this
    machine's. Pure."""
    states = {state.name: state for card in seen for state in card.engines}
    served: dict[str, list[str]] = {}
    for card in seen:
        for model in card.models:
            names = served.setdefault(model.engine, [])
            names += [model.id] if model.id not in names else []
    result = []
    for engine in engines:
        state = states.pop(engine.name, None)
        about = (state.state, state.reason, state.slots) if state else (_AWAY, "", engine.slots)
        models = tuple(served.get(engine.name, engine.models))
        result.append(Row(engine.name, engine.kind, _at(engine), *about, models))
    for name, state in states.items():
        about = (state.state, state.reason, state.slots)
        models = tuple(served.get(name, ()))
        result.append(Row(name, state.kind, _ELSEWHERE, *about, models, listed=False))
    return result


def _at(engine: Engine) -> str:
    if engine.url:
        return engine.url
    program = Path(engine.command[0]).name if engine.command else "built-in"
    return f"{program} {Path(engine.file).name}".rstrip()


def _node(where: Where, settings: Settings) -> str:
    joined = kept.any_of(where.data)
    return settings.worker.node or (joined.name if joined else platform.node() or "node")


async def _cards(where: Where) -> list[Card]:
    """Of the workers that the broker knows; none if it cannot be asked."""
    try:
        async with connected(where.admin(), "headrace-engine") as bus:
            return [card for card in await cards(bus) if card.role != Role.FALLBACK]
    except (CommandFailed, BusError):
        return []


def _print(
    where: Where, listed: Sequence[Row], running: Sequence[Found], engines: Sequence[Engine]
) -> None:
    out = console()
    file = where.config or "no file of settings is named, and there is no headrace.toml here"
    if listed:
        cells = [
            (row.name, row.kind, row.at, row.state, row.slots or "", ", ".join(row.models) or "-")
            for row in listed
        ]
        out.print(_folded(table(_CONFIGURED, cells, "Configured")))
        for row in listed:
            if row.reason:
                out.print(plain(f"{row.name}: {row.reason}"), style="yellow")
    else:
        out.print("No engine is configured: a worker starts the small built-in model.\n")
    new = found.new(running, engines)
    if running:
        lines = (
            (each.url, each.kind, _who(each), _what(each), "no" if each in new else "yes")
            for each in running
        )
        out.print(_folded(table(_FOUND, lines, "Running on this machine")))
    else:
        out.print("No engine was found running on this machine.\n")
    out.print(f"settings: {file}", style="dim", markup=False, soft_wrap=True)
    if new:
        command = shlex.join([*own_command(), "engine", "add", new[0].url])
        out.print(f"add one:  {command}", style="dim", markup=False, soft_wrap=True)


def _folded(found: Table) -> Table:
    """The same with nothing cut: names and addresses are to be copied."""
    found.padding, found.pad_edge = (0, 0, 0, 0), False
    for column in found.columns:
        column.overflow = "fold"
    return found


def _who(each: Found) -> str:
    return f"{each.program} ({each.pid})" if each.program else "-"


def _what(each: Found) -> str:
    if each.wants_key:
        return "it wants its key"
    return each.fault or ", ".join(each.models) or "none yet"

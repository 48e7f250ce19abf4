"""What must hold once all is over: nothing is left, nothing leaks, and all is counted and paid."""

from __future__ import annotations

import asyncio

from schemas import nodes, subjects
from schemas.bus import Message
from tests.chaos import money
from tests.chaos.ledger import Ledger
from tests.chaos.stage import GRANTED, Stage
from tests.fabric import PATIENCE, Process
from tests.served import served

READY = ("ready", "")
"""States of engines that serve; "": of providers."""


async def closed(stage: Stage, ledger: Ledger) -> list[str]:
    """The faults that are found; waits until work has ended."""
    await stage.setup.fabric.idle()
    found = _words(stage.processes)
    found += await _letters(stage)
    found += await _slots(stage)
    found += await _money(stage, ledger)
    found += await _usage(stage, ledger)
    return found + stage.faults


def _words(processes: list[Process]) -> list[str]:
    """Tracebacks, and all that a process itself calls an error."""
    found = []
    for process in processes:
        found += [f"{process.name}: {line.strip()}" for line in process.noise if line.strip()]
        found += [
            f"{process.name}: {line}"
            for line in process.lines
            if line.get("level") in ("error", "critical") or "exception" in line
        ]
    return found


async def _letters(stage: Stage) -> list[str]:
    return [f"dead letter: {letter}" for letter in await stage.setup.fabric.dead_letters()]


async def _slots(stage: Stage) -> list[str]:
    """Each worker says once more what is taken of its engines, and each ingress what it waits
    for."""
    cards = await _cards(stage, len(stage.workers) + len(stage.fallbacks))
    found = [
        f"{card.node}: {engine.name} has {engine.busy} slots taken, state {engine.state}"
        for card in cards
        for engine in card.engines
        if engine.busy or engine.state not in READY
    ]
    found += [f"{card.node}: {card.jobs} jobs" for card in cards if card.jobs]
    for ingress in stage.serving():
        async with stage.setup.fabric.session.get(ingress.url + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        flight = [line for line in lines if line.startswith("headrace_jobs_in_flight ")]
        if flight != ["headrace_jobs_in_flight 0.0"]:
            found.append(f"{ingress.name}: {flight}")
    return found


async def _cards(stage: Stage, wanted: int) -> list[nodes.Card]:
    """A card of each process that runs: the next in which its engines are ready, as those that were
    killed last may still start; or the newest, if that does not come."""
    cards: dict[str, nodes.Card] = {}
    enough = asyncio.Event()

    def hear(message: Message) -> None:
        card = nodes.unpack(message.data, partly=True)
        cards[card.holder] = card
        if len(cards) >= wanted and all(map(_ready, cards.values())):
            enough.set()

    bus = await stage.setup.fabric.admin()
    try:
        await bus.subscribe(subjects.ALL_CARDS, hear)
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
    except TimeoutError:
        if len(cards) < wanted:
            raise
    finally:
        await bus.close()
    return list(cards.values())


def _ready(card: nodes.Card) -> bool:
    return all(engine.state in READY for engine in card.engines)


async def _money(stage: Stage, ledger: Ledger) -> list[str]:
    """Nothing is reserved any more, and `money` has no fault."""

    async def nothing_reserved() -> bool:
        return not (await stage.setup.balance()).reserved

    await stage.setup.until(nothing_reserved)
    entries = await stage.setup.entries()
    charged = sum(entry.usage.cost for entry in entries if entry.usage is not None)
    bought = money.joined(stage.sim.record.requests, entries)
    ledger.bought = money.summary(bought)
    found = list(money.faults(bought, ledger.sold()))
    if (left := (await stage.setup.balance()).available) != GRANTED - charged:
        found.append(f"{left} are left of {GRANTED} after charges of {charged}")
    return found


async def _usage(stage: Stage, ledger: Ledger) -> list[str]:
    """Each whole answer of a worker that a client has is counted, and no more than may be whole."""
    for process in stage.serving():
        await stage.drain(process)
    bus = await stage.setup.fabric.admin()
    try:
        rows = await served(bus)
    finally:
        await bus.close()
    counted = sum(row.requests for row in rows)
    least, most = ledger.served_by_workers()
    if least <= counted <= most:
        return []
    return [f"{counted} answers of workers are counted, not {least} to {most}"]

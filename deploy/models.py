"""``headrace model``: which models are known, who serves them, and how one is forgotten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace

import orjson

from deploy.configure import CommandFailed, Where, no_such
from deploy.nodes.roster import Roster
from deploy.nodes.store import NodeStore
from deploy.status import console, table
from deploy.survey import cards, connected
from schemas import subjects
from schemas.bus import Bus, BusError
from schemas.jetstream import queues, streams
from schemas.jetstream.queues import Queue
from schemas.nodes import Card


@dataclass(frozen=True, slots=True)
class Row:
    """One model. `nodes`: who serves it now; `lanes`: its queues at the broker; `jobs`: those that
    wait or run."""

    model: str
    nodes: tuple[str, ...]
    lanes: tuple[str, ...]
    jobs: int


def rows(found: Iterable[Queue], seen: Iterable[Card]) -> list[Row]:
    """All models that have a queue, or that somebody serves, by their names. Pure."""
    nodes, lanes = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    jobs = defaultdict[str, int](int)
    for card in seen:
        for served in card.models:
            nodes[served.id].add(card.node)
    for queue in found:
        lanes[queue.model].add(subjects.lane_name(queue.lane))
        jobs[queue.model] += queue.depth
    names = sorted({*nodes, *lanes})
    return [
        Row(name, tuple(sorted(nodes[name])), tuple(sorted(lanes[name])), jobs[name])
        for name in names
    ]


async def show_all(where: Where, as_json: bool) -> None:
    async with connected(where.admin(), "headrace-model") as bus:
        found = await _look(bus)
    if as_json:
        print(orjson.dumps([asdict(row) for row in found]).decode())
        return
    lines = (
        (row.model, ", ".join(row.nodes) or "nobody", ", ".join(row.lanes), row.jobs)
        for row in found
    )
    console().print(table(("model", "served by", "queues", ">jobs"), lines))


async def forget(where: Where, name: str) -> None:
    """Drop the queues of a model that nobody serves, and with them its name. Raises
    CommandFailed."""
    async with connected(where.admin(), "headrace-model") as bus:
        check(name, await _look(bus))
        for consumer in await queues.consumers(bus):
            if (consumer["config"].get("metadata") or {}).get("headrace.model") == name:
                await streams.delete_consumer(bus, subjects.JOBS_STREAM, consumer["name"])
        await _take_back(bus, name)
    print(f"{name}: forgotten; it is known again once somebody serves it")


def check(name: str, found: Collection[Row]) -> None:
    """Raises CommandFailed for a model that cannot be forgotten. Pure."""
    row = next((row for row in found if row.model == name), None)
    if row is None:
        raise CommandFailed(no_such("model", name, (row.model for row in found)))
    if row.nodes:
        why = f"{', '.join(row.nodes)} serves it: take it out of the engine there"
        raise CommandFailed(f"{name} would be known again at once, as {why}")
    if row.jobs:
        raise CommandFailed(f"{row.jobs} jobs wait for {name}: they would wait in vain")


async def _look(bus: Bus) -> list[Row]:
    return rows(await queues.read(bus), await cards(bus))


async def _take_back(bus: Bus, model: str) -> None:
    """No node needs to pull it any more."""
    store, roster = NodeStore(bus), Roster()
    try:
        roster.read(await store.last())
    except BusError:  # no node has ever joined
        return
    for place, node in roster.nodes.values():
        if model in node.served:
            served = tuple(each for each in node.served if each != model)
            await store.write(replace(node, served=served), place)

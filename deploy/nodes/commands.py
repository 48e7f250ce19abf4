"""What `headrace node` prints: it looks at the records of nodes, and has `desk` change them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import asdict, replace
from functools import partial

import orjson

from deploy import home
from deploy.configure import CommandFailed, Where
from deploy.nats import store as stores
from deploy.nodes import desk as desks
from deploy.nodes import gate, listing
from deploy.nodes.desk import Desk
from deploy.nodes.listing import Row
from deploy.nodes.store import NodeStore
from deploy.status import console, stamp, table
from deploy.survey import connected
from schemas import registry, subjects
from schemas.bus import Bus, BusError
from schemas.jobs import CodecError
from schemas.registry import Node

_HUB = 15.0
"""Seconds for the hub to put a change in force."""
_ROTATED = 15.0
"""Seconds for a node to change its keys."""
_RELOAD = 3.0
"""Seconds that the broker may take to read its configuration anew."""
_LOOK = 0.1


async def _applied(bus: Bus, place: int) -> None:
    """Wait until the hub has put the record at `place` in force. Without a hub it is said that
    it is not. Raises CommandFailed."""
    try:
        await bus.request(subjects.ASK_APPLIED, b"%d" % place, timeout=_HUB)
    except BusError as fault:
        if not _nobody_answers(fault):
            raise CommandFailed(f"the hub did not put it in force: {fault}") from None
        why = (
            "it is written, and not in force: no hub runs at this broker. It will be, once "
            "'headrace up' or 'headrace broker' runs it"
        )
        print(why, file=sys.stderr)


def _nobody_answers(fault: BusError) -> bool:
    return "no responders" in str(fault).lower()


async def _surely(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask the broker. As it reads its configuration anew, which each change of nodes has it do,
    nobody answers for a moment. Raises BusError."""
    by = time.monotonic() + _RELOAD
    while True:
        try:
            await ask()
            return
        except BusError as fault:
            if not _nobody_answers(fault) or time.monotonic() > by:
                raise
        await asyncio.sleep(_LOOK)


@contextlib.asynccontextmanager
async def opened(where: Where) -> AsyncIterator[Desk]:
    """Raises CommandFailed for whatever is wrong with what is asked of the broker."""
    login = where.admin()
    try:
        async with connected(login, "headrace-node") as bus:
            store = NodeStore(bus, login.replicas)
            desk = Desk(bus, store, partial(_applied, bus))
            await _surely(store.open)
            await _surely(desk.read)
            yield desk
    except CodecError as fault:
        raise CommandFailed(f"the records of nodes are of another release: {fault}") from None
    except BusError as fault:
        raise CommandFailed(f"the records of nodes cannot be asked: {fault}") from None


async def invite(
    where: Where, name: str, models: Collection[str], role: str, expires: str, as_json: bool
) -> None:
    """Print the line with which a machine joins."""
    desks.check(name, models, role, expires)
    address = stores.find(home.broker_store(where.data))
    if address is None or not address.addresses:
        raise CommandFailed(_unshared(where, address is not None))
    async with opened(where) as desk:
        made = await desks.invite(desk, address, name, models, role, expires)
    token, ends = made.pack(), made.expires
    if as_json:
        print(_dumped({"name": name, "role": role, "expires": ends, "token": token}))
        return
    print(f"good once, until {stamp(ends)} UTC; on the machine {name!r}:", file=sys.stderr)
    print(f"headrace {role} --join {token}")


async def show_all(where: Where, as_json: bool) -> None:
    async with opened(where) as desk:
        found = await desk.here()
    if as_json:
        print(_dumped([asdict(row) for row in found]))
        return
    columns = ("name", "role", "state", "since (UTC)", "models", "version", "labels", "how")
    console().print(table(columns, map(_line, found)))


async def show(where: Where, name: str, as_json: bool) -> None:
    async with opened(where) as desk:
        row, node = await desk.row(name), desk.roster.node(name)
    if as_json:
        print(_dumped({**asdict(row), **({"record": asdict(node)} if node else {})}))
        return
    shown = {**asdict(row), "since": _moment(row.since)}
    if node is not None and node.nkey:
        shown |= {"joined": _moment(node.joined), "key": node.nkey}
    lines = ((field, _text(value)) for field, value in shown.items())
    console().print(table(("field", "value"), lines))


async def drain(where: Where, name: str, drained: bool) -> None:
    async with opened(where) as desk:
        print(await desks.drain(desk, name, drained=drained))


async def evict(where: Where, name: str) -> None:
    async with opened(where) as desk:
        print(await desks.evict(desk, name))


async def forget(where: Where, name: str) -> None:
    async with opened(where) as desk:
        print(await desks.forget(desk, name))


async def rotate(where: Where, name: str) -> None:
    """Have it change its keys. No job is lost by it."""
    now = time.time()
    async with opened(where) as desk:
        row = await desk.row(name)
        _check_joined(row)
        await desk.change(name, lambda node: replace(_live(node), rotate=now))
        if row.state == listing.AWAY:
            print(f"{name}: it is away, and changes its keys as soon as it is here")
            return
        try:
            async with asyncio.timeout(_ROTATED):
                while (node := desk.roster.node(name)) is not None and node.rotate:
                    await asyncio.sleep(_LOOK)
                    await desk.read()
        except TimeoutError:
            why = "it was told, and has not changed its keys yet: see its log"
            raise CommandFailed(f"{name}: {why}") from None
    print(f"{name}: it has new keys; the old ones are good for {gate.GRACE / 60:.0f} min more")


async def rename(where: Where, name: str, to: str) -> None:
    """Its processes come back by another name; its keys stay."""
    if why := registry.unfit_name(to):
        raise CommandFailed(f"{to!r}: {why}")
    async with opened(where) as desk:
        await desks.check_free(desk, to)
        _check_joined(await desk.row(name))
        node = desk.roster.nodes[name][1]
        until = time.time() + gate.GRACE
        made = replace(_live(node), name=to, previous_name=name, previous_until=until)
        await desk.write(made)
        # Who evicts it meanwhile is not undone.
        if not (place := await desk.drop(node)):
            await desk.applied(await desk.write(to))
            raise CommandFailed(f"others change the record of {name}: try again")
        await desk.applied(place)
    print(f"{name}: is {to} from now on")


def _unshared(where: Where, runs: bool) -> str:
    if runs:
        return (
            "other machines cannot reach this broker: stop it, and start it as 'headrace up "
            "--share', or with a host in the section [share]"
        )
    return (
        f"no broker runs on {where.data}: tokens are made on the hub's machine, where 'headrace up "
        "--share' or 'headrace broker --share' runs"
    )


def _check_joined(row: Row) -> None:
    if row.how == listing.OWN:
        raise CommandFailed(f"{row.name} did not join: its name and login are of its own machine")


def _live(node: Node) -> Node:
    """A node that joined, and was not evicted. Raises CommandFailed."""
    if node.state == registry.EVICTED:
        raise CommandFailed(f"{node.name} was evicted")
    return node


def _line(row: Row) -> tuple[str, ...]:
    models = _text(row.models)
    if row.may:
        models += f" (of {_text(row.may)})" if models else f"(of {_text(row.may)})"
    state = f"{row.state} ({row.jobs} jobs)" if row.state == listing.DRAINING else row.state
    labels = _text(row.labels)
    return row.name, row.role, state, _moment(row.since), models, row.version, labels, row.how


def _moment(at: float) -> str:
    return stamp(at) if at else ""


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _dumped(document: object) -> str:
    return orjson.dumps(document).decode()

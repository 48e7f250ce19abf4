"""What `headrace node` does: it writes the records of nodes, and waits until the hub has put them
in force."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import asdict, replace

import orjson

from deploy import home
from deploy.configure import CommandFailed, Where, no_such
from deploy.nats import store as stores
from deploy.nodes import gate, listing
from deploy.nodes.listing import Row
from deploy.nodes.roster import Roster
from deploy.nodes.store import NodeStore
from deploy.nodes.token import Token
from deploy.status import console, stamp, table
from deploy.survey import cards, connected
from schemas import nkeys, registry, spans, subjects
from schemas.bus import Bus, BusError
from schemas.jobs import CodecError
from schemas.registry import Invite, Node

_HUB = 15.0
"""Seconds for the hub to put a change in force."""
_ROTATED = 15.0
"""Seconds for a node to change its keys."""
_RELOAD = 3.0
"""Seconds that the broker may take to read its configuration anew."""
_LOOK = 0.1
_LONGEST = 30 * 86_400
_ID = 10
"""Bytes of an invitation's id."""


class Desk:
    """The records, as one command sees and changes them."""

    def __init__(self, bus: Bus, store: NodeStore) -> None:
        self._bus = bus
        self._store = store
        self.roster = Roster()

    async def read(self) -> None:
        self.roster.read(await self._store.last())

    async def here(self) -> list[Row]:
        """All nodes, and those of whom there is no record."""
        nodes = [node for _, node in self.roster.nodes.values()]
        invites = [invite for _, invite in self.roster.invites.values()]
        return listing.rows(nodes, invites, await cards(self._bus), time.time())

    async def row(self, name: str) -> Row:
        """What is known of one. Raises CommandFailed."""
        found = await self.here()
        for row in found:
            if row.name == name and row.how != "invited":
                return row
        known = {row.name for row in found if row.how != "invited"}
        raise CommandFailed(no_such("node", name, known))

    async def change(self, name: str, make: Callable[[Node], Node | None]) -> None:
        """Change a record that there is, and wait until that is in force. Raises CommandFailed."""

        def made(before: Node | None) -> Node | None:
            if before is None:
                raise CommandFailed(no_such("node", name, self.roster.nodes))
            return make(before)

        await self.applied(await self._store.change(name, made))

    async def write(self, node: Node | str) -> int:
        """Write a record where there was none, or none where there was one. Raises
        CommandFailed."""
        name = node if isinstance(node, str) else node.name
        place = (await self._store.last()).get(subjects.node(name), (0, b""))[0]
        if not (written := await self._store.write(node, place)):
            raise CommandFailed(f"others change the record of {name}: try again")
        return written

    async def drop(self, node: Node) -> int:
        """Have no record where `node` was read; 0 if it was changed since."""
        return await self._store.write(node.name, self.roster.nodes[node.name][0])

    async def withdraw(self, name: str) -> bool:
        """Have the open invitations by this name end. Whether there were any."""
        now, found = time.time(), False
        for place, invite in self.roster.invites.values():
            if invite.name == name and not invite.used and invite.expires > now:
                await self.applied(await self._store.invite(replace(invite, expires=now), place))
                found = True
        return found

    async def invite(self, invite: Invite) -> None:
        await self.applied(await self._store.invite(invite))

    async def applied(self, place: int) -> None:
        """Wait until the hub has put the record at `place` in force. Without a hub it is said that
        it is not. Raises CommandFailed."""
        try:
            await self._bus.request(subjects.ASK_APPLIED, b"%d" % place, timeout=_HUB)
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
            desk = Desk(bus, store)
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
    seconds = _checked(name, models, role, expires)
    address = stores.find(home.broker_store(where.data))
    if address is None or not address.addresses:
        raise CommandFailed(_unshared(where, address is not None))
    key, now = nkeys.make(), time.time()
    id, globs = secrets.token_hex(_ID), tuple(dict.fromkeys(models))
    made = Invite(id, name, key.public, now + seconds, now, role=role, models=globs)
    async with opened(where) as desk:
        await _check_free(desk, name)
        await desk.invite(made)
    fingerprint = bytes.fromhex(address.fingerprint)
    ends = int(made.expires)
    token = Token(address.addresses, fingerprint, id, key.secret, role, name, ends).pack()
    if as_json:
        print(_dumped({"name": name, "role": role, "expires": ends, "token": token}))
        return
    print(f"good once, until {stamp(made.expires)} UTC; on the machine {name!r}:", file=sys.stderr)
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
    """It finishes what it has and gets no more jobs, or gets them again."""
    state = registry.DRAINED if drained else registry.ACTIVE
    now = time.time()
    async with opened(where) as desk:
        row = await desk.row(name)
        _check_drainable(row)
        if desk.roster.node(name) is None:
            own = Node(name, row.role, state=state, since=now)
            await desk.applied(await desk.write(own))
        else:
            await desk.change(name, lambda node: _moved(node, state, now))
    print(f"{name}: {'drained: it finishes what it has' if drained else 'gets jobs again'}")


async def evict(where: Where, name: str) -> None:
    """Its connections are cut, its keys are dead, and others get its jobs."""
    now = time.time()
    async with opened(where) as desk:
        await desk.row(name)
        node = desk.roster.node(name)
        if node is None or not node.nkey:
            why = "it uses a login of the hub's own machine: stop its process, or drain it"
            raise CommandFailed(f"{name} did not join: {why}")
        await desk.change(name, lambda node: _moved(node, registry.EVICTED, now))
    print(f"{name}: evicted; 'headrace node forget {name}' frees its name")


async def forget(where: Where, name: str) -> None:
    """There is no record of it any more, and no open invitation."""
    async with opened(where) as desk:
        withdrawn = await desk.withdraw(name)
        if (node := desk.roster.node(name)) is None:
            if withdrawn:
                print(f"{name}: its invitation is withdrawn")
                return
            await desk.row(name)
            raise CommandFailed(f"nothing is kept of {name}: it is listed while it is here")
        here = (await desk.row(name)).holders
        if node.nkey and here and node.state != registry.EVICTED:
            raise CommandFailed(f"{name} is here: 'headrace node evict {name}' before")
        await desk.applied(await desk.write(name))
    print(f"{name}: forgotten" + (", and its keys are dead" if node.nkey else ""))


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
        await _check_free(desk, to)
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


def _checked(name: str, models: Collection[str], role: str, expires: str) -> int:
    """Seconds for which an invitation is good. Raises CommandFailed."""
    if why := registry.unfit_name(name):
        raise CommandFailed(f"{name!r}: {why}")
    if role not in registry.ROLES:
        raise CommandFailed(f"{role!r} is no role: there are {', '.join(registry.ROLES)}")
    if models and role == registry.INGRESS:
        raise CommandFailed("--models is for those who serve: an ingress takes requests for all")
    if len(models) > registry.MOST_GLOBS:
        raise CommandFailed(f"--models: {registry.MOST_GLOBS} patterns at most")
    for glob in models:
        if why := registry.unfit_glob(glob):
            raise CommandFailed(f"--models: {why}")
    seconds = spans.seconds(expires)
    if seconds is None or not 0 < seconds <= _LONGEST:
        raise CommandFailed(f"--expires: {expires!r} is no span as 1h or 2d, of 30d at most")
    return seconds


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


async def _check_free(desk: Desk, name: str) -> None:
    """Raises CommandFailed."""
    row = next((row for row in await desk.here() if row.name == name), None)
    if row is None or row.how == "invited":
        return
    if row.state == registry.EVICTED:
        why = f"was evicted: 'headrace node forget {name}' frees its name"
    else:
        why = "is there already: choose another name, or evict it"
    raise CommandFailed(f"a node {name!r} {why}")


def _check_drainable(row: Row) -> None:
    if row.state == registry.EVICTED:
        raise CommandFailed(f"{row.name} was evicted: it gets no jobs")
    if row.role == registry.INGRESS:
        raise CommandFailed(f"{row.name} is an ingress, which gets no jobs: stop its process")


def _check_joined(row: Row) -> None:
    if row.how == listing.OWN:
        raise CommandFailed(f"{row.name} did not join: its name and login are of its own machine")


def _live(node: Node) -> Node:
    """A node that joined, and was not evicted. Raises CommandFailed."""
    if node.state == registry.EVICTED:
        raise CommandFailed(f"{node.name} was evicted")
    return node


def _moved(node: Node, state: str, now: float) -> Node:
    if node.state == registry.EVICTED:
        raise CommandFailed(f"{node.name} was evicted")
    return node if node.state == state else replace(node, state=state, since=now)


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

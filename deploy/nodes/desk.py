"""What is done to nodes, by `headrace node` and from the console: the records of nodes are written,
and it is waited until the hub has put them in force.

All of it raises CommandFailed for what cannot be done; the message says why, and what to do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from deploy.configure import CommandFailed, no_such
from deploy.nats.store import Address
from deploy.nodes import listing
from deploy.nodes.listing import Row
from deploy.nodes.roster import Roster
from deploy.nodes.store import NodeStore
from deploy.nodes.token import Token
from deploy.survey import cards
from schemas import nkeys, registry, spans, subjects
from schemas.bus import Bus
from schemas.registry import Invite, Node

Applied = Callable[[int], Awaitable[None]]

_LONGEST = 30 * 86_400
_ID = 10
"""Bytes of an invitation's id."""


class Desk:
    """The records, as one change sees and makes them. `applied`: waits until the hub has put the
    record at a place in force, or raises."""

    def __init__(self, bus: Bus, store: NodeStore, applied: Applied) -> None:
        self._bus = bus
        self._store = store
        self.applied = applied
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


async def invite(
    desk: Desk, address: Address, name: str, models: Collection[str], role: str, expires: str
) -> Token:
    """What a machine joins by, once. `address`: of the broker, which others reach; `expires`: a
    span, as 1h."""
    seconds = check(name, models, role, expires)
    key, now = nkeys.make(), time.time()
    id, globs = secrets.token_hex(_ID), tuple(dict.fromkeys(models))
    made = Invite(id, name, key.public, now + seconds, now, role=role, models=globs)
    await check_free(desk, name)
    await desk.invite(made)
    fingerprint = bytes.fromhex(address.fingerprint)
    return Token(address.addresses, fingerprint, id, key.secret, role, name, int(made.expires))


async def drain(desk: Desk, name: str, *, drained: bool) -> str:
    """It finishes what it has and gets no more jobs, or gets them again. What it came to, in
    words, as of all that follow."""
    state = registry.DRAINED if drained else registry.ACTIVE
    now = time.time()
    row = await desk.row(name)
    _check_drainable(row)
    if desk.roster.node(name) is None:
        own = Node(name, row.role, state=state, since=now)
        await desk.applied(await desk.write(own))
    else:
        await desk.change(name, lambda node: _moved(node, state, now))
    return f"{name}: {'drained: it finishes what it has' if drained else 'gets jobs again'}"


async def evict(desk: Desk, name: str) -> str:
    """Its connections are cut, its keys are dead, and others get its jobs."""
    now = time.time()
    await desk.row(name)
    node = desk.roster.node(name)
    if node is None or not node.nkey:
        why = "it uses a login of the hub's own machine: stop its process, or drain it"
        raise CommandFailed(f"{name} did not join: {why}")
    await desk.change(name, lambda node: _moved(node, registry.EVICTED, now))
    return f"{name}: evicted; 'headrace node forget {name}' frees its name"


async def forget(desk: Desk, name: str) -> str:
    """There is no record of it any more, and no open invitation."""
    withdrawn = await desk.withdraw(name)
    if (node := desk.roster.node(name)) is None:
        if withdrawn:
            return f"{name}: its invitation is withdrawn"
        await desk.row(name)
        raise CommandFailed(f"nothing is kept of {name}: it is listed while it is here")
    if node.nkey and node.state != registry.EVICTED and await _is_here(desk, name):
        raise CommandFailed(f"{name} is here: 'headrace node evict {name}' before")
    await desk.applied(await desk.write(name))
    return f"{name}: forgotten" + (", and its keys are dead" if node.nkey else "")


async def _is_here(desk: Desk, name: str) -> bool:
    """Whether cards of it come. They are listened for twice, as they may be late on a busy machine,
    and who is forgotten has no keys any more."""
    for _ in range(2):
        if (await desk.row(name)).holders:
            return True
    return False


def check(name: str, models: Collection[str], role: str, expires: str) -> int:
    """Seconds for which an invitation is good. Raises CommandFailed."""
    if why := registry.unfit_name(name):
        raise CommandFailed(f"{name!r}: {why}")
    if role not in registry.ROLES:
        raise CommandFailed(f"{role!r} is no role: there are {', '.join(registry.ROLES)}")
    if models and role == registry.INGRESS:
        raise CommandFailed("models are for those who serve: an ingress takes requests for all")
    if len(models) > registry.MOST_GLOBS:
        raise CommandFailed(f"models: {registry.MOST_GLOBS} patterns at most")
    for glob in models:
        if why := registry.unfit_glob(glob):
            raise CommandFailed(f"models: {why}")
    seconds = spans.seconds(expires)
    if seconds is None or not 0 < seconds <= _LONGEST:
        raise CommandFailed(f"{expires!r} is no span of time as 1h or 2d, of 30d at most")
    return seconds


async def check_free(desk: Desk, name: str) -> None:
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


def _moved(node: Node, state: str, now: float) -> Node:
    if node.state == registry.EVICTED:
        raise CommandFailed(f"{node.name} was evicted")
    return node if node.state == state else replace(node, state=state, since=now)

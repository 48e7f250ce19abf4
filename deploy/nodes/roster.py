"""Who may log in at the broker by the records of nodes and invitations, and until when. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import structlog

from deploy.nats.rights import Grant, Login, invite_user, node_users
from schemas import registry, subjects
from schemas.jetstream.records import Last
from schemas.jobs import CodecError
from schemas.registry import EVICTED, Invite, Node

log = structlog.get_logger("roster")

TOLD = 24 * 3600.0
"""Seconds for which an invitation that is over can still be asked for, so that whoever comes late
is told why he cannot join."""


class Roster:
    """`nodes` by name, `invites` by id, each with the place of its record."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[int, Node]] = {}
        self.invites: dict[str, tuple[int, Invite]] = {}
        self._unreadable: set[int] = set()

    def read(self, last: Last) -> None:
        """Take what the stream says now. A record that cannot be read gives nobody a login."""
        self.nodes = {
            node.name: (place, node)
            for place, node in self._all(Node, last, subjects.ALL_NODES)
            if node.name
        }
        self.invites = {
            invite.id: (place, invite)
            for place, invite in self._all(Invite, last, subjects.ALL_INVITES)
        }

    def _all(
        self, kind: type[registry.Record], last: Last, pattern: str
    ) -> Iterator[tuple[int, registry.Record]]:
        head = pattern.removesuffix("*")
        for subject, (place, data) in last.items():
            if not subject.startswith(head):
                continue
            try:
                found = registry.unpack(kind, data)
            except CodecError as fault:
                if place not in self._unreadable:
                    self._unreadable.add(place)
                    log.error("roster.unreadable", subject=subject, error=str(fault))
                continue
            if found is not None:
                yield place, found

    def node(self, name: str) -> Node | None:
        found = self.nodes.get(name)
        return found[1] if found else None

    def logins(self, now: float) -> tuple[Login, ...]:
        """Of all who may log in at `now` (Unix seconds). No key stands there twice: the broker
        would take none of them."""
        found: dict[str, Login] = {}
        # A rename that broke off leaves two records of one key, of which one may be evicted later.
        dead = {
            key for _, node in self.nodes.values() if node.state == EVICTED for key in node.keys
        }
        for _, node in self.nodes.values():
            for login in _of_node(node, now):
                if login.known["nkey"] not in dead:
                    found.setdefault(login.known["nkey"], login)
        for _, invite in self.invites.values():
            if now < invite.expires + TOLD:
                login = invite_user(invite)
                found.setdefault(login.known["nkey"], login)
        return tuple(found.values())

    def next_end(self, now: float) -> float:
        """Seconds until a login ends by itself."""
        ends = [invite.expires + TOLD for _, invite in self.invites.values()]
        ends += [node.previous_until for _, node in self.nodes.values()]
        return min((end - now for end in ends if end > now), default=math.inf)


def _of_node(node: Node, now: float) -> Iterator[Login]:
    changing = node.previous_until > now
    before = replace(node, name=node.previous_name or node.name) if changing else node
    for login, older in zip(
        node_users(node, node.nkey, node.second_nkey),
        node_users(before, node.nkey, node.second_nkey),
        strict=True,
    ):
        yield _both(login, older)
    if changing:
        yield from node_users(before, node.previous_nkey, node.previous_second_nkey)


def _both(one: Login, other: Login) -> Login:
    """A login with the rights of two: that of a node which is being renamed."""
    if one == other or one.grant is None or other.grant is None:
        return one
    return replace(
        one,
        grant=Grant(
            tuple(dict.fromkeys(one.grant.publish + other.grant.publish)),
            tuple(dict.fromkeys(one.grant.subscribe + other.grant.subscribe)),
        ),
    )

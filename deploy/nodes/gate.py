"""Who is let in: what whoever is invited is answered, and a node that changes its keys. Pure."""

from __future__ import annotations

from dataclasses import replace

from deploy.nodes import exchange
from deploy.nodes.exchange import ANEW, Answer, Ask
from deploy.nodes.roster import Roster
from schemas import registry
from schemas.registry import Invite, Node

GRACE = 600.0
"""Seconds for which the keys and the name are good that a node had before it changed them."""


class Refused(Exception):
    """Why somebody is not let in. `code`: one of `exchange`'s; the text says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def answer(self, now: float) -> Answer:
        return Answer(now, code=self.code, message=str(self))


def admitted(roster: Roster, id: str, ask: Ask, now: float) -> tuple[Invite, Node]:
    """The invitation `id`, and the node that joins by it. If it has joined already, that is the
    record that is there. Raises Refused."""
    _, invite = roster.invites.get(id, (0, None))
    if invite is None:
        raise Refused(exchange.USED, f"the hub does not know this token any more: {ANEW}")
    if why := exchange.wrong_clock(ask.clock, now):
        raise Refused(exchange.WRONG_CLOCK, why)
    before = roster.node(invite.name)
    if before is not None and before.nkey == ask.nkey and before.state != registry.EVICTED:
        return invite, before  # it did not hear the answer
    if invite.used:
        raise Refused(exchange.USED, f"this token was used already: each lets in once; {ANEW}")
    if now > invite.expires:
        raise Refused(exchange.EXPIRED, f"this token has expired: {ANEW}")
    _check_free(invite.name, before)
    _check_keys(roster, ask, invite.role)
    return invite, Node(
        invite.name,
        invite.role,
        ask.nkey,
        ask.second_nkey,
        invite.models,
        since=now,
        invited=invite.made,
        joined=now,
        seen=now,
    )


def rotated(roster: Roster, name: str, ask: Ask, now: float) -> Node:
    """The record of a node with new keys. Raises Refused: for one that nobody told to, too, as
    who has taken its key could have it locked out."""
    node = roster.node(name)
    if node is None or node.state == registry.EVICTED:
        raise Refused(exchange.EVICTED, f"there is no node {name!r}")
    if node.nkey == ask.nkey:
        return node  # it did not hear the answer
    if not node.rotate:
        raise Refused(exchange.BROKEN, "nobody has told this node to change its keys")
    _check_keys(roster, ask, node.role)
    return replace(
        node,
        nkey=ask.nkey,
        second_nkey=ask.second_nkey,
        rotate=0.0,
        previous_nkey=node.nkey,
        previous_second_nkey=node.second_nkey,
        previous_until=now + GRACE,
    )


def _check_free(name: str, before: Node | None) -> None:
    """Raises Refused."""
    if before is None:
        return
    if before.state == registry.EVICTED:
        why = f"a node {name!r} was evicted: 'headrace node forget' at the hub frees its name"
        raise Refused(exchange.EVICTED, why)
    why = f"there is a node {name!r} already: have another name invited, or evict that one"
    raise Refused(exchange.TAKEN, why)


def _check_keys(roster: Roster, ask: Ask, role: str) -> None:
    """Raises Refused."""
    if (ask.second_nkey != "") is not (role != registry.WORKER):
        raise Refused(exchange.BROKEN, f"a node of the role {role} has other keys: update it")
    known = {key for _, node in roster.nodes.values() for key in node.keys}
    known |= {invite.verifier for _, invite in roster.invites.values()}
    if ask.nkey == ask.second_nkey or known & {ask.nkey, ask.second_nkey} - {""}:
        raise Refused(exchange.BROKEN, "its key is known already: let it make a new one")

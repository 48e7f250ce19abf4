from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.nodes import exchange, gate
from deploy.nodes.exchange import Ask
from deploy.nodes.gate import Refused
from deploy.nodes.roster import Roster
from schemas import nkeys, registry
from schemas.registry import Invite, Node

NOW = 1_800_000_000.0
FRESH, OTHER, OLD, SECOND, TOKEN = (nkeys.make().public for _ in range(5))
INVITE = Invite("i1", "gpu", TOKEN, NOW + 60, NOW - 60, models=("llama*",))
ASK = Ask(FRESH, NOW)


def roster(invite: Invite | None = INVITE, *nodes: Node) -> Roster:
    made = Roster()
    made.invites = {invite.id: (1, invite)} if invite else {}
    made.nodes = {node.name: (n, node) for n, node in enumerate(nodes, 2)}
    return made


def refusal(found: Roster, ask: Ask = ASK, now: float = NOW) -> str:
    with pytest.raises(Refused) as why:
        gate.admitted(found, "i1", ask, now)
    assert str(why.value)
    return why.value.code


def test_who_is_invited_is_let_in_as_the_invitation_says() -> None:
    invite, node = gate.admitted(roster(), "i1", ASK, NOW)
    assert invite == INVITE
    assert (node.name, node.role, node.nkey, node.models) == ("gpu", "worker", FRESH, ("llama*",))
    assert (node.state, node.invited, node.joined) == (registry.ACTIVE, NOW - 60, NOW)


def test_who_did_not_hear_the_answer_is_let_in_again() -> None:
    there = Node("gpu", nkey=FRESH)
    used = replace(INVITE, used=NOW)
    assert gate.admitted(roster(used, there), "i1", ASK, NOW)[1] == there
    assert gate.admitted(roster(INVITE, there), "i1", ASK, NOW)[1] == there


@pytest.mark.parametrize(
    ("code", "found", "ask"),
    [
        (exchange.USED, roster(None), ASK),
        (exchange.USED, roster(replace(INVITE, used=NOW)), ASK),
        (exchange.EXPIRED, roster(replace(INVITE, expires=NOW - 1)), ASK),
        (exchange.TAKEN, roster(INVITE, Node("gpu", nkey=OTHER)), ASK),
        (exchange.TAKEN, roster(INVITE, Node("gpu")), ASK),
        (exchange.EVICTED, roster(INVITE, Node("gpu", nkey=FRESH, state="evicted")), ASK),
        (exchange.WRONG_CLOCK, roster(), replace(ASK, clock=NOW - 3600)),
        (exchange.BROKEN, roster(INVITE, Node("other", nkey=FRESH)), ASK),
        (exchange.BROKEN, roster(INVITE, Node("other", nkey=OTHER, previous_nkey=FRESH)), ASK),
        (exchange.BROKEN, roster(), replace(ASK, nkey=TOKEN)),
        (exchange.BROKEN, roster(), replace(ASK, second_nkey=SECOND)),
        (exchange.BROKEN, roster(replace(INVITE, role="ingress")), ASK),
        (
            exchange.BROKEN,
            roster(replace(INVITE, role="ingress")),
            replace(ASK, second_nkey=FRESH),
        ),
    ],
)
def test_who_is_not_let_in(code: str, found: Roster, ask: Ask) -> None:
    assert refusal(found, ask) == code


def test_keys_are_changed_when_that_was_ordered() -> None:
    node = Node("gpu", nkey=OLD, rotate=NOW - 1)
    made = gate.rotated(roster(None, node), "gpu", ASK, NOW)
    assert (made.nkey, made.previous_nkey, made.rotate) == (FRESH, OLD, 0.0)
    assert made.previous_until == NOW + gate.GRACE
    assert gate.rotated(roster(None, made), "gpu", ASK, NOW) == made


@pytest.mark.parametrize(
    ("code", "node"),
    [
        (exchange.BROKEN, Node("gpu", nkey=OLD)),
        (exchange.EVICTED, Node("gpu", nkey=OLD, rotate=1.0, state="evicted")),
        (exchange.EVICTED, Node("other", nkey=OLD, rotate=1.0)),
        (exchange.BROKEN, Node("gpu", role="ingress", nkey=OLD, rotate=1.0)),
    ],
)
def test_keys_that_are_not_changed(code: str, node: Node) -> None:
    with pytest.raises(Refused) as why:
        gate.rotated(roster(None, node), "gpu", ASK, NOW)
    assert why.value.code == code

from __future__ import annotations

import math
from dataclasses import replace

from deploy.nats.rights import Account, Login
from deploy.nodes.roster import TOLD, Roster
from schemas import nkeys, subjects
from schemas.jetstream.records import Last
from schemas.registry import Invite, Node

NOW = 1_800_000_000.0
KEY, OTHER, TOKEN, SECOND = (nkeys.make().public for _ in range(4))
NODE = Node("gpu", nkey=KEY, served=("m",))
INVITE = Invite("i1", "next", TOKEN, NOW + 60)


def roster(*records: Node | Invite) -> Roster:
    made, last = Roster(), Last()
    for place, record in enumerate(records, 1):
        is_node = isinstance(record, Node)
        subject = subjects.node(record.name) if is_node else subjects.invite(record.id)  # type: ignore[union-attr]
        last[subject] = place, record.pack()
    made.read(last)
    return made


def keys(found: tuple[Login, ...]) -> set[str]:
    return {login.known["nkey"] for login in found}


def test_nodes_and_invitations_have_logins() -> None:
    found = roster(NODE, INVITE).logins(NOW)
    assert {login.known["nkey"]: login.account for login in found} == {
        KEY: Account.MEMBERS,
        TOKEN: Account.JOIN,
    }


def test_who_was_evicted_or_never_joined_has_none() -> None:
    assert roster(replace(NODE, state="evicted"), Node("own")).logins(NOW) == ()


def test_an_invitation_that_is_over_can_be_asked_for_a_while() -> None:
    made = roster(INVITE)
    assert keys(made.logins(INVITE.expires + 1)) == {TOKEN}
    assert made.logins(INVITE.expires + TOLD) == ()
    assert made.next_end(NOW) == 60 + TOLD
    assert math.isinf(roster(NODE).next_end(NOW))


def test_keys_that_are_being_replaced_are_good_for_a_while() -> None:
    node = replace(NODE, role="ingress", second_nkey=SECOND, previous_nkey=OTHER)
    made = roster(replace(node, previous_until=NOW + 5))
    assert keys(made.logins(NOW)) == {KEY, SECOND, OTHER}
    assert keys(made.logins(NOW + 6)) == {KEY, SECOND}
    assert made.next_end(NOW) == 5


def test_who_is_being_renamed_has_the_rights_of_both_names() -> None:
    (login,) = roster(
        replace(NODE, name="new", previous_name="old", previous_until=NOW + 5)
    ).logins(NOW)
    assert login.grant is not None
    assert {"hb.new.*", "hb.old.*"} <= set(login.grant.publish)
    assert {"c.new.*", "c.old.*"} <= set(login.grant.subscribe)


def test_one_key_is_one_login_and_what_cannot_be_read_none() -> None:
    made = roster(NODE, replace(NODE, name="twice"))
    assert len(made.logins(NOW)) == 1
    made.read({subjects.node("gpu"): (1, b"rubbish"), subjects.invite("x"): (2, b"")})
    assert made.logins(NOW) == ()
    assert made.node("gpu") is None


def test_the_key_of_an_evicted_node_lets_in_by_no_other_record() -> None:
    """As a rename leaves it that broke off between its two records."""
    out, other = replace(NODE, state="evicted"), replace(NODE, name="second")
    assert roster(out, other).logins(NOW) == roster(other, out).logins(NOW) == ()

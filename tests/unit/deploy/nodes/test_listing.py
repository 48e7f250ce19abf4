from __future__ import annotations

from deploy.configure import no_such
from deploy.nodes import listing
from schemas import nkeys
from schemas.nodes import Card, ServedModel
from schemas.registry import Invite, Node

KEY = nkeys.make().public
NOW = 1_800_000_000.0


def card(name: str, *models: str, jobs: int = 0, draining: bool = False) -> Card:
    served = tuple(ServedModel(model, "e", "echo", 1) for model in models)
    return Card(f"{name}.x", name, "s", 1, "1.0", draining, (), served, jobs, int(NOW))


def test_each_node_has_one_row() -> None:
    found = listing.rows(
        [
            Node("here", nkey=KEY, since=1.0, models=("a*",)),
            Node("gone", nkey=KEY, seen=2.0),
            Node("out", nkey=KEY, state="evicted", since=3.0),
            Node("rest", nkey=KEY, state="drained", since=4.0),
            Node("edge", "ingress", nkey=KEY, since=5.0),
        ],
        [Invite("i", "next", KEY, NOW + 9, NOW), Invite("j", "late", KEY, NOW - 1, NOW)],
        [card("here", "a1", "a2"), card("rest", jobs=2, draining=True), card("own", "m")],
        NOW,
    )
    assert [(row.name, row.state, row.since, row.how) for row in found] == [
        ("edge", "active", 5.0, "joined"),
        ("gone", "away", 2.0, "joined"),
        ("here", "active", 1.0, "joined"),
        ("next", "invited", NOW, "invited"),
        ("out", "evicted", 3.0, "joined"),
        ("own", "active", NOW, "own"),
        ("rest", "draining", 4.0, "joined"),
    ]
    assert (found[2].models, found[2].may, found[2].version) == (("a1", "a2"), ("a*",), "1.0")
    assert found[-1].jobs == 2


def test_an_unknown_name_draws_the_nearest() -> None:
    assert no_such("node", "gpu-bx", ["gpu-box", "edge"]) == (
        "there is no node 'gpu-bx'; did you mean 'gpu-box'?"
    )
    assert "headrace node list" in no_such("node", "zzz", ["gpu-box"])


def test_who_is_being_renamed_has_one_row() -> None:
    node = Node("new", nkey=KEY, since=1.0, previous_name="old", previous_until=NOW + 9)
    (row,) = listing.rows([node], [], [card("old", "m", jobs=1)], NOW)
    assert (row.name, row.state, row.jobs) == ("new", "active", 1)
    later = listing.rows([node], [], [card("old", "m")], NOW + 10)
    assert [(row.name, row.how) for row in later] == [("new", "joined"), ("old", "own")]
    joined = listing.rows([node, Node("old", nkey=KEY)], [], [card("old", "m")], NOW)
    assert [(row.name, row.state) for row in joined] == [("new", "away"), ("old", "active")]

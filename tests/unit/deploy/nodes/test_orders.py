from __future__ import annotations

from deploy.nodes import orders
from deploy.nodes.orders import Muster
from deploy.nodes.roster import Roster
from schemas import nkeys, registry
from schemas.nodes import Card, ServedModel
from schemas.registry import Node, Order

KEY = nkeys.make().public
NOW = 1_800_000_000.0


def muster(*nodes: Node) -> Muster:
    roster = Roster()
    roster.nodes = {node.name: (1, node) for node in nodes}
    return Muster(roster)


def card(name: str = "gpu", *models: str, draining: bool = False) -> Card:
    served = tuple(ServedModel(model, "e", "echo", 1) for model in models)
    return Card(f"{name}.x", name, "s", 1, "1", draining, (), served)


def test_a_card_that_agrees_draws_no_order() -> None:
    assert muster(Node("gpu")).order(card()) is None
    assert muster(Node("gpu", state="drained")).order(card(draining=True)) is None
    assert muster().order(card()) is None


def test_a_card_that_does_not_agree_draws_one() -> None:
    drained = Node("gpu", state=registry.DRAINED)
    assert muster(drained).order(card()) == Order("gpu", drained=True)
    assert muster(Node("gpu")).order(card(draining=True)) == Order("gpu")
    assert muster(Node("gpu", nkey=KEY, rotate=5.0)).order(card()) == Order("gpu", rotate=5.0)
    renamed = Node("new", nkey=KEY, previous_name="gpu", previous_until=NOW)
    assert muster(renamed).order(card()) == Order("new")
    assert muster(renamed).order(card("new")) is None


def test_who_was_granted_models_is_told_anyway() -> None:
    made = muster(Node("gpu", nkey=KEY, served=("a", "b")))
    made.hear(card(), NOW)
    (found,) = made.cards_of("gpu")
    assert made.order(found) is None
    assert made.order(found, anyway=True) == Order("gpu", granted=2.0)
    assert made.cards_of("other") == []


def test_what_a_node_is_granted() -> None:
    node = Node("gpu", nkey=KEY, models=("a*",), served=("a1",))
    assert muster(node).ungranted(card("gpu", "a1", "a2", "b")) == {"a2"}
    assert muster(Node("gpu")).ungranted(card("gpu", "a")) == frozenset()
    long = Node("gpu", nkey=KEY, served=("x" * orders.MOST_LETTERS,))
    assert muster(long).ungranted(card("gpu", "a")) == frozenset()
    full = Node("gpu", nkey=KEY, served=tuple(map(str, range(registry.MOST_SERVED))))
    assert muster(full).ungranted(card("gpu", "a")) == frozenset()


def test_when_a_node_was_seen_is_noted_as_it_goes_and_now_and_then() -> None:
    made = muster(Node("gpu", nkey=KEY))
    made.hear(card(), NOW)
    assert list(made.sightings(NOW)) == [("gpu", NOW)]
    made.hear(card(), NOW + 10)
    assert list(made.sightings(NOW + 10)) == []
    assert list(made.sightings(NOW + 10 + orders.AWAY + 1)) == [("gpu", NOW + 10)]
    assert list(made.sightings(NOW + 60)) == []
    made.hear(card(), NOW + orders.NOTE_EACH * 2)
    assert list(made.sightings(NOW + orders.NOTE_EACH * 2)) == [("gpu", NOW + orders.NOTE_EACH * 2)]


def test_strangers_are_not_remembered() -> None:
    made = muster(Node("gpu"))
    assert made.hear(card("other"), NOW) is None
    assert made.cards() == []
    for number in range(orders.MOST + 5):
        made.hear(Card(f"gpu.{number}", "gpu", "s", 1, "1"), NOW)
    assert len(made.cards()) == orders.MOST


def test_who_is_away_for_long_may_be_forgotten() -> None:
    made = muster(
        Node("gone", nkey=KEY, seen=NOW - 100),
        Node("short", nkey=KEY, seen=NOW - 10),
        Node("here", nkey=KEY, seen=NOW - 100),
        Node("edge", "ingress", nkey=KEY, joined=NOW - 100),
        Node("out", nkey=KEY, state="evicted", seen=NOW - 100),
    )
    made.hear(card("here"), NOW)
    assert [node.name for node in made.long_gone(NOW, 50)] == ["gone"]
    assert made.long_gone(NOW, 0) == []

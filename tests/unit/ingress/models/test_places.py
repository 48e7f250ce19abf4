"""What a request for certain nodes is told, and what its plan says."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from ingress.models import locality, places
from ingress.models.catalog import STALE, Catalog
from ingress.models.locality import ANY, LOCAL
from ingress.models.nodes import STARTED
from ingress.models.pins import Pin
from ingress.models.places import AWAY, DRAINED, LACKING, SERVING, STARTING
from ingress.models.routes import Plan, Routes
from schemas import registry
from schemas.api.endpoints import CHAT
from schemas.errors import InvalidRequest, ModelNotFound, NodeNotFound, NoProvider, NoWorker
from schemas.frames import Role
from schemas.nodes import Card, EngineState
from schemas.settings import Settings
from tests.unit.fakes import card

PROVIDER = {"name": "p", "url": "http://127.0.0.1:1"}
ROUTE = {"name": "both", "model": "m", "providers": ["p/x"]}


def on(node: str, *models: str, labels: tuple[str, ...] = (), **more: Any) -> Card:
    made = card(f"{node}-1", *models, **{k: more.pop(k) for k in ("slots", "role") if k in more})
    return replace(made, node=node, labels=labels, **more)


class House:
    """Nodes, and the plans for requests that name some."""

    def __init__(self) -> None:
        self.now = 100.0
        self.catalog = Catalog(lambda: self.now)
        self.now += STARTED
        self.catalog.hear(on("a", "m", labels=("gpu=4090", "zone=home"), slots=4))
        self.catalog.hear(on("b", "m", "n", labels=("gpu=3090", "zone=home"), slots=2))
        config = Settings.model_validate({"providers": [PROVIDER], "route": [ROUTE]})
        self.routes = Routes(config, self.catalog)

    def plan(self, pin: Pin, name: str | None = "m", wish: str = "", **more: Any) -> Plan:
        return self.routes.plan(name, CHAT, wish, pin=pin, **more)

    def order(self, *records: registry.Node) -> None:
        self.catalog.enroll({each.name: each for each in records})

    def state(self, node: str, model: str = "m") -> str:
        (found,) = self.catalog.nodes.places(model, Pin(node))
        return found.state


@pytest.fixture
def house() -> House:
    return House()


def test_a_place_says_what_a_node_has_for_a_model(house: House) -> None:
    busy = (EngineState("e", "echo", "ready", 4, 3),)
    house.catalog.hear(replace(on("a", "m"), engines=busy))
    served = replace(on("a", "m").models[0], engine="e")
    house.catalog.hear(replace(on("a"), engines=busy, models=(served,)))
    (found,) = house.catalog.nodes.places("m", Pin("a"))
    assert (found.state, found.slots, found.busy, found.absent) == (SERVING, 4, 3, 0.0)


def test_the_plan_is_for_these_nodes_and_stays_here(house: House) -> None:
    plan = house.plan(Pin("a"), "both")
    assert (plan.model, plan.pin, plan.reach, plan.mixed) == ("m", Pin("a"), LOCAL, True)


def test_a_node_that_does_not_exist(house: House) -> None:
    with pytest.raises(NodeNotFound, match=r"There is no node 'c'. Known nodes: a, b\."):
        house.plan(Pin("c"))
    with pytest.raises(NodeNotFound, match=r"There is no node with gpu=1\. Known nodes: a, b"):
        house.plan(Pin(labels=("gpu=1",)))


def test_an_ingress_that_began_just_now_calls_no_node_unknown(house: House) -> None:
    house.now -= STARTED
    with pytest.raises(NoWorker, match="began just now") as caught:
        house.plan(Pin("c"))
    assert caught.value.retry_after == 1


def test_its_key_is_told_of_no_other_nodes(house: House) -> None:
    with pytest.raises(NodeNotFound, match=r"Known nodes: a\."):
        house.plan(Pin("aa", globs=("a*",)))
    with pytest.raises(NoWorker, match="None of the nodes that this key may use is here"):
        house.plan(Pin(globs=("x*",)))


def test_a_node_that_does_not_have_the_model_says_which_it_has(house: House) -> None:
    with pytest.raises(ModelNotFound, match=r"'a' does not serve 'n'\. It serves: m\."):
        house.plan(Pin("a"), "n")
    with pytest.raises(ModelNotFound, match=r"It serves: nothing\."):
        house.plan(Pin("a"), "n", globs=("n",))
    house.catalog.hear(on("c", "x", labels=("zone=home",)))
    house.catalog.know("y")
    with pytest.raises(ModelNotFound, match=r"nodes a, b, c serves 'y'\. They serve: m, n, x\."):
        house.plan(Pin(labels=("zone=home",)), "y")


def test_one_that_is_away_comes_again(house: House) -> None:
    house.now += STALE + 1
    house.catalog.hear(on("b", "m"))
    house.catalog.expire()
    with pytest.raises(NoWorker, match="The node 'a' is away") as caught:
        house.plan(Pin("a"))
    assert caught.value.retry_after == places.LATER
    house.now += 30
    (found,) = house.catalog.nodes.places("m", Pin("a"))
    assert (found.state, found.absent) == (AWAY, 30.0)
    house.catalog.hear(on("a", "m"))
    assert house.plan(Pin("a")).pin == Pin("a")


def test_after_a_week_it_is_unknown(house: House) -> None:
    house.catalog.forget("a-1")
    house.now += 7 * 86_400
    with pytest.raises(NodeNotFound):
        house.plan(Pin("a"))


def test_one_whose_engine_failed_is_expected_to_have_the_model_again(house: House) -> None:
    house.catalog.hear(on("a"))
    assert house.state("a") == STARTING
    with pytest.raises(NoWorker, match="'a' does not serve 'm' now: its engine is not ready"):
        house.plan(Pin("a"))


def test_one_that_begins_may_have_any_model(house: House) -> None:
    starting = (EngineState("e", "echo", "starting", 0, 0),)
    house.catalog.hear(replace(on("c"), engines=starting))
    assert house.state("c") == STARTING
    house.catalog.hear(on("c", "x"))
    assert house.state("c") == LACKING


def test_one_that_drains_is_not_asked(house: House) -> None:
    house.catalog.hear(on("a", "m", draining=True))
    with pytest.raises(NoWorker, match="The node 'a' is drained"):
        house.plan(Pin("a"))


def test_one_that_its_operator_drained_is_not_expected(house: House) -> None:
    house.order(registry.Node("a", state=registry.DRAINED))
    (found,) = house.catalog.nodes.places("m", Pin("a"))
    assert (found.state, found.absent) == (DRAINED, inf)


def test_one_that_joined_and_was_never_heard_is_away_and_an_evicted_one_is_unknown(
    house: House,
) -> None:
    house.order(registry.Node("c"))
    assert house.state("c") == AWAY
    house.order(registry.Node("a", state=registry.EVICTED))
    assert house.catalog.nodes.places("m", Pin("a")) == []


def test_one_that_was_forgotten_is_unknown_at_once(house: House) -> None:
    house.order(registry.Node("a"))
    house.catalog.forget("a-1")
    assert house.state("a") == AWAY
    house.order()
    with pytest.raises(NodeNotFound):
        house.plan(Pin("a"))


def test_who_finishes_by_an_old_name_is_unknown_by_it_afterwards(house: House) -> None:
    house.order(registry.Node("a"))
    house.order(registry.Node("c", previous_name="a"))
    house.catalog.forget("a-1")  # only now, as it had a stream
    with pytest.raises(NodeNotFound):
        house.plan(Pin("a"))


def test_of_several_one_that_serves_is_enough(house: House) -> None:
    home = ("zone=home",)
    house.catalog.hear(on("a", labels=home))
    assert house.plan(Pin(labels=home)).pin is not None
    house.catalog.hear(on("b", labels=home))
    with pytest.raises(NoWorker, match=r"serves 'm' now \(a: starting, b: starting\)"):
        house.plan(Pin(labels=("zone=home",)))


def test_two_processes_of_one_node_are_one_place(house: House) -> None:
    house.catalog.hear(replace(on("a", "m", labels=("extra=1",), slots=2), holder="a-2"))
    assert house.plan(Pin(labels=("extra=1", "gpu=4090"))).pin is not None
    assert house.catalog.slots("m", "n-a") == 6
    house.catalog.forget("a-1")
    assert house.state("a") == SERVING


def test_a_change_of_labels_makes_plans_anew(house: House) -> None:
    before = house.catalog.edition
    house.catalog.hear(on("a", "m", labels=("gpu=5090",), slots=4))
    assert house.catalog.edition > before


@pytest.mark.parametrize(
    ("wish", "pin", "reach"),
    [
        ("", Pin("a"), LOCAL),
        ("never", Pin("a"), LOCAL),
        ("allow", Pin("a"), ANY),
        ("allow", Pin("a", globs=("a",)), LOCAL),
        ("", Pin(globs=("a",)), LOCAL),
    ],
)
def test_it_goes_to_a_provider_only_if_it_says_so_itself(
    house: House, wish: str, pin: Pin, reach: str
) -> None:
    assert house.plan(pin, "both", wish).reach == reach


def test_allowed_to_leave_it_needs_no_node_that_is_there(house: House) -> None:
    house.catalog.hear(on("a"))
    house.catalog.hear(card("fb-1", "m", role=Role.FALLBACK))
    assert house.plan(Pin("a"), "both", "allow").reach == ANY
    with pytest.raises(NodeNotFound):
        house.plan(Pin("c"), "both", "allow")


def test_a_strictly_local_key_stays_here(house: House) -> None:
    assert house.plan(Pin("a"), "both", "allow", local=True).reach == LOCAL


def test_a_provider_alone_is_no_node(house: House) -> None:
    with pytest.raises(InvalidRequest, match="the node 'a'") as caught:
        house.plan(Pin("a"), "both", "only")
    assert caught.value.param == locality.HEADER
    with pytest.raises(NoProvider, match="its key is bound to nodes"):
        house.plan(Pin(globs=("a",)), "both", "only")


def test_without_a_model_one_of_the_node_is_meant(house: House) -> None:
    house.catalog.hear(on("c", "x"))
    assert house.plan(Pin("c"), None).model == "x"
    assert house.plan(Pin("b"), None).model == "m"

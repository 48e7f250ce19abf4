from __future__ import annotations

from collections.abc import Callable

import pytest

from ingress.models import catalog as catalogs
from ingress.models.catalog import STALE, Catalog
from schemas.nodes import EngineState, ServedModel, resuming, resuming_thoughts
from tests.unit.fakes import Clock, card

CHAT = "/v1/chat/completions"


@pytest.fixture
def clock() -> Clock:
    return Clock(500.0)


@pytest.fixture
def catalog(clock: Clock) -> Catalog:
    return Catalog(clock)


def test_nobody_is_known_at_first(catalog: Catalog) -> None:
    assert catalog.known() == []
    assert catalog.models() == {}
    assert not catalog.knows("m")
    assert (catalog.absent("m"), catalog.serving("m"), catalog.heard("w")) == (0.0, [], 0.0)
    assert catalog.at("S", 7) == []


def test_a_card_brings_models(catalog: Catalog, clock: Clock) -> None:
    catalog.hear(card("w-1", "a", "b", slots=4))
    catalog.hear(card("w-2", "b", slots=2))
    assert sorted(catalog.models()) == ["a", "b"]
    assert [c.holder for c, _ in catalog.models()["b"]] == ["w-1", "w-2"]
    assert [[served.slots for served in catalog.serving(model)] for model in "ab"] == [[4], [4, 2]]
    assert catalog.serves("b")
    assert catalog.heard("w-2") == clock.now
    assert catalog.at("S", 7) == ["w-1", "w-2"]


def test_a_connection_leads_to_its_worker(catalog: Catalog) -> None:
    catalog.hear(card("w-1", "a", client=1))
    catalog.hear(card("w-2", "a", client=2))
    catalog.hear(card("w-3", "a", client=2, server="T"))
    assert [catalog.at("S", 2), catalog.at("T", 2), catalog.at("T", 1)] == [["w-2"], ["w-3"], []]


def test_a_worker_that_falls_silent_is_dropped_and_its_models_stay_known(
    catalog: Catalog, clock: Clock
) -> None:
    catalog.hear(card("w-1", "a", "b"))
    clock.now += STALE
    catalog.hear(card("w-2", "b"))
    assert catalog.expire() == []
    clock.now += 0.1
    assert catalog.expire() == ["w-1"]
    assert (catalog.serves("a"), catalog.knows("a")) == (False, True)
    assert catalog.known() == ["a", "b"]
    clock.now += 2
    assert (catalog.absent("a"), catalog.absent("b")) == (2.0, 0.0)


def test_a_model_is_forgotten_unless_it_is_served_or_a_route_names_it(catalog: Catalog) -> None:
    catalog.know("routed", lasting=True)
    catalog.know("gone")
    catalog.know("served")
    catalog.hear(card("w-1", "served"))
    assert catalog.absentees() == ["gone"]
    edition = catalog.edition
    for model in ("gone", "served", "never"):
        catalog.forget_model(model)
    assert catalog.known() == ["routed", "served"]
    assert catalog.edition == edition + 1


def test_a_model_that_comes_back_was_never_absent(catalog: Catalog, clock: Clock) -> None:
    catalog.hear(card("w-1", "a"))
    catalog.forget("w-1")
    catalog.forget("w-1")
    clock.now += 5
    assert catalog.absent("a") == 5
    catalog.hear(card("w-2", "a"))
    assert catalog.absent("a") == 0
    catalog.forget("w-2")
    clock.now += 1
    assert catalog.absent("a") == 1


def test_an_engine_that_is_away_takes_its_models_with_it(catalog: Catalog, clock: Clock) -> None:
    catalog.hear(card("w-1", "a", "b"))
    catalog.hear(card("w-1", "b"))
    clock.now += 1
    assert not catalog.serves("a")
    assert (catalog.absent("a"), catalog.absent("b")) == (1.0, 0.0)


def test_a_model_is_waited_for_while_its_engine_starts(catalog: Catalog) -> None:
    def state(name: str, now: str) -> EngineState:
        return EngineState(name, "echo", now, 4, 0)

    served = ServedModel("a", "one", "echo", 4)
    catalog.hear(card("w-1", models=(served,), engines=(state("one", "ready"),)))
    assert not catalog.is_starting("a")
    for engines, starting in (
        ((state("one", "failed"), state("two", "starting")), False),
        ((state("one", "starting"),), True),
        ((state("one", "ready"),), False),
    ):
        catalog.hear(card("w-1", engines=engines))
        assert catalog.is_starting("a") == starting
    catalog.forget("w-1")
    catalog.hear(card("w-2", engines=(state("one", "starting"),), node="elsewhere"))
    assert not catalog.is_starting("a")


def test_a_model_that_moves_within_one_card_is_served(catalog: Catalog, clock: Clock) -> None:
    catalog.hear(card("w-1", "a"))
    moved = ServedModel("a", "other", "echo", 9)
    catalog.hear(card("w-1", models=(moved,)))
    clock.now += 1
    assert (catalog.absent("a"), catalog.serving("a")) == (0.0, [moved])


def test_a_model_known_by_name_alone_is_absent(catalog: Catalog, clock: Clock) -> None:
    catalog.know("a")
    clock.now += 3
    catalog.know("a")
    assert (catalog.knows("a"), catalog.serves("a"), catalog.absent("a")) == (True, False, 3.0)
    catalog.hear(card("w-1", "a"))
    catalog.know("a")
    assert catalog.absent("a") == 0


def test_after_a_deafness_of_its_own_nobody_is_late(catalog: Catalog, clock: Clock) -> None:
    catalog.hear(card("w-1", "a"))
    catalog.know("b")
    clock.now += 60
    catalog.refresh()
    assert catalog.expire() == []
    assert catalog.absent("b") == 0
    clock.now += STALE + 0.1
    assert catalog.expire() == ["w-1"]


def test_only_changes_are_counted(catalog: Catalog) -> None:
    def after(change: Callable[[], object]) -> int:
        change()
        return catalog.edition

    assert catalog.edition == 0
    assert after(lambda: catalog.hear(card("w-1", "a"))) == 1
    assert after(lambda: catalog.hear(card("w-1", "a", jobs=1))) == 1
    assert after(lambda: catalog.hear(card("w-1", "a", "b"))) == 2
    assert after(lambda: catalog.forget("w-1")) == 3
    assert after(lambda: catalog.forget("w-1")) == 3


def test_only_so_many_models_are_remembered(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "MOST", 2)
    catalog.know("first")
    for turn in range(3):
        catalog.hear(card("w-1", f"a-{turn}", f"b-{turn}"))
    assert catalog.known() == ["a-0", "a-2", "b-2", "first"]


@pytest.mark.parametrize(
    ("others", "texts", "thoughts"),
    [
        ((resuming(CHAT), resuming_thoughts(CHAT)), True, True),
        ((resuming(CHAT),), True, False),
        ((), False, False),
    ],
)
def test_what_is_begun_goes_on_only_if_each_engine_takes_it(
    catalog: Catalog, others: tuple[str, ...], texts: bool, thoughts: bool
) -> None:
    assert not catalog.thoughts_resume("m", CHAT)
    for holder, more in (("w-1", (resuming(CHAT), resuming_thoughts(CHAT))), ("w-2", others)):
        served = ServedModel("m", "e", "llamacpp", 1, features=("chat", *more))
        catalog.hear(card(holder, models=(served,)))
    found = catalog.workers_resume("m", CHAT), catalog.thoughts_resume("m", CHAT)
    assert found == (texts, thoughts)
    assert not catalog.thoughts_resume("m", "/v1/messages")


def test_cards_have_no_room_without_end(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "MOST_HOLDERS", 3)
    monkeypatch.setattr(catalogs, "MOST_LISTED", 5)
    assert catalog.hear(card("a", "m", "n"))
    assert catalog.hear(card("b", "m", "n"))
    assert not catalog.hear(card("c", "m", "n")), "six models"
    assert catalog.hear(card("c", "m"))
    assert not catalog.hear(card("d")), "a fourth holder"
    assert not catalog.hear(card("a", "m", "n", "o")), "one who is here, and says more"
    assert catalog.hear(card("a", "m")), "who is here is heard"
    assert catalog.holders("m") == {"a", "b", "c"}

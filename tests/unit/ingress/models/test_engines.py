from __future__ import annotations

from typing import Any

import pytest

from ingress.models.affinity import Place
from ingress.models.engines import UNKNOWN, Engines
from schemas.nodes import Card, EngineState, ServedModel
from tests.unit import fakes

A = Place("a.1", "e")


def card(holder: str = "a.1", *models: ServedModel, busy: int = 0, **changed: Any) -> Card:
    """Of one engine with 4 slots."""
    engine = EngineState("e", "echo", "ready", 4, busy)
    said = {"engines": (engine,), "models": models or (served("m"),), **changed}
    return fakes.card(holder, **said)


def served(model: str, context: int = 0, prompt_us: int = 0) -> ServedModel:
    return ServedModel(model, "e", "echo", 4, context, prompt_us=prompt_us)


@pytest.fixture
def engines() -> Engines:
    return Engines()


def test_a_model_is_shared_while_several_engines_have_it(engines: Engines) -> None:
    engines.hear(card("a.1", served("m"), served("n")))
    assert engines.shared == {}
    engines.hear(card("b.1"))
    assert engines.shared == {"m": 2}
    assert engines.forget("b.1") == [Place("b.1", "e")]
    assert engines.shared == {}
    assert engines.forget("b.1") == []


def test_a_card_says_what_an_engine_is_like(engines: Engines) -> None:
    engines.hear(card("a.1", served("m", 512, 70), served("n")))
    found = engines.get(A)
    assert found is not None
    assert found.models == {"m": 512, "n": UNKNOWN}
    assert found.paces == {"m": 70, "n": 0}
    assert engines.get(Place("a.1", "other")) is None


def test_jobs_of_here_are_counted_and_not_read(engines: Engines) -> None:
    engines.move("one", A, runs=True)
    engines.move("two", A, runs=True)
    engines.hear(card(busy=3))
    assert engines.free(A) == 1, "one of another ingress, two of here"
    engines.move("one", None)
    assert engines.free(A) == 2
    for number in range(4):
        engines.move(f"more {number}", A)
    assert engines.free(A) == -2, "two wait"
    engines.clear()
    assert engines.free(A) == 3
    assert engines.free(Place("b.1", "e")) == 0, "nobody knows it"


def test_who_waits_for_a_slot_is_in_no_cards_count(engines: Engines) -> None:
    for _ in range(2):  # a card comes at least once a second
        engines.hear(card(busy=4))
        assert engines.free(A) == 0
    for number in range(2):
        engines.move(str(number), A)
        engines.hear(card(busy=4))
        assert engines.free(A) == -1 - number
    engines.move("0", A, runs=True)  # in the slot of a job of another ingress
    engines.hear(card(busy=4))
    assert engines.free(A) == -1


def test_who_is_told_again_has_not_left(engines: Engines) -> None:
    assert engines.hear(card()) == []
    found = engines.get(A)
    assert found is not None
    found.tells = True
    assert engines.hear(card(busy=1)) == []
    found = engines.get(A)
    assert found is not None
    assert found.tells


@pytest.mark.parametrize("changed", [{"draining": True}, {"engines": ()}])
def test_who_drains_or_loses_its_engine_has_left(engines: Engines, changed: dict[str, Any]) -> None:
    engines.hear(card())
    assert engines.hear(card(**changed)) == [A]
    assert engines.get(A) is None


def test_an_engine_with_another_model_was_begun_anew(engines: Engines) -> None:
    engines.hear(card("a.1", served("m")))
    assert engines.hear(card("a.1", served("n"))) == [A]
    assert engines.get(A) is not None

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ingress.models.catalog import Catalog
from ingress.models.routes import Plan, Routes
from schemas.api.endpoints import CHAT, EMBEDDINGS, RERANK, TRANSCRIPTIONS
from schemas.errors import InvalidRequest, ModelNotFound
from schemas.frames import Role
from schemas.nodes import Ignored, ServedModel
from schemas.settings import Route, Settings
from tests.unit.fakes import card


def routes(*models: str, route: list[Route] | None = None, **defaults: Any) -> Routes:
    catalog = Catalog(lambda: 0.0)
    catalog.hear(card("w-1", *models))
    config = Settings.model_validate({"routes": defaults, "route": route or []})
    return Routes(config, catalog)


def able(can: Mapping[str, tuple[str, ...]], default: str = "") -> Routes:
    """Models with these endpoints, and the route ``heard`` to one of them."""
    catalog = Catalog(lambda: 0.0)
    models = tuple(ServedModel(name, "e", "k", 1, features=words) for name, words in can.items())
    catalog.hear(card("w-1", models=models))
    route = [{"name": "heard", "model": "b"}]
    return Routes(
        Settings.model_validate({"routes": {"default": default}, "route": route}), catalog
    )


def test_a_served_model_is_its_own_route() -> None:
    plan = routes("m", claim=1, first_token=2, total=3).plan("m", CHAT)
    assert plan == Plan("m", "m", 1.0, 2.0, 3.0)


def test_a_named_route_has_deadlines_of_its_own_where_it_says_so() -> None:
    made = routes(route=[Route(name="chat", model="m", claim=0, total=9)], first_token=7)
    assert made.plan("chat", CHAT) == Plan("chat", "m", 0.0, 7.0, 9.0)


def test_a_route_hides_a_model_of_its_name() -> None:
    assert routes("m", "n", route=[Route(name="m", model="n")]).plan("m", CHAT).model == "n"


def test_the_model_of_a_route_is_known_before_anyone_serves_it() -> None:
    made = routes(route=[Route(name="chat", model="m")])
    assert made.plan("m", CHAT).model == "m"
    assert made.names() == ["chat", "m"]
    assert made.aliases() == {"chat": "m"}


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_default_is_meant(name: str | None) -> None:
    assert routes("a", "m", default="m").plan(name, CHAT).name == "m"
    named = routes("m", route=[Route(name="chat", model="m")], default="chat")
    assert named.plan(name, CHAT) == Plan("chat", "m", 2.0, 300.0, 600.0)


def test_without_a_default_it_is_the_first_model_that_is_served() -> None:
    assert routes("z", "a").plan(None, CHAT).model == "a"


def test_without_a_default_it_is_one_that_can_do_it() -> None:
    made = able({"a": ("embeddings",), "b": ("chat",), "c": ("chat",)})
    assert [made.plan(None, each).model for each in (CHAT, EMBEDDINGS)] == ["b", "a"]
    with pytest.raises(ModelNotFound, match="no engine that runs now has /v1/rerank"):
        made.plan(None, RERANK)


SOUNDS = {"a": ("chat",), "b": ("transcriptions",), "c": ("transcriptions",)}


@pytest.mark.parametrize(
    ("served", "default", "meant"),
    [("ab", "", "b"), ("abc", "c", "c"), ("abc", "heard", "b"), ("ab", "a", "b")],
)
def test_a_sound_is_for_the_only_model_that_hears_or_the_default(
    served: str, default: str, meant: str
) -> None:
    made = able({name: SOUNDS[name] for name in served}, default)
    assert made.plan(None, TRANSCRIPTIONS).model == meant


def test_of_several_that_hear_one_must_be_named() -> None:
    with pytest.raises(InvalidRequest, match=r"/v1/audio/transcriptions: b, c\.") as caught:
        able(SOUNDS, "a").plan(None, TRANSCRIPTIONS)
    assert caught.value.param == "model"
    with pytest.raises(ModelNotFound, match="no engine that runs now"):
        able({"a": ("chat",)}, "a").plan(None, TRANSCRIPTIONS)


@pytest.mark.parametrize("name", ["x", "m ", "*", "\n", "openai/", ".gguf", "anthropic/m"])
def test_an_unknown_name_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"does not exist. Known models: m, n\.") as caught:
        routes("n", "m").plan(name, CHAT)
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    "name", ["M", "openai/m", "OpenAI/M", "m.gguf", "openai/M.GGUF", "models/m"]
)
def test_a_name_finds_its_model_however_clients_spell_it(name: str) -> None:
    plan = routes("n", "m").plan(name, CHAT)
    assert (plan.name, plan.model, plan.route) == (name, "m", "")


def test_a_spelling_may_be_on_either_side_and_lead_to_a_route() -> None:
    made = routes("openai/Q.gguf", route=[Route(name="GPT", model="m")])
    assert made.plan("q", CHAT).model == "openai/Q.gguf"
    plan = made.plan("gpt", CHAT)
    assert (plan.name, plan.model, plan.route) == ("gpt", "m", "GPT")


def test_the_very_name_goes_before_one_that_is_alike() -> None:
    made = routes("M", "m", "openai/m")
    assert [made.plan(name, CHAT).model for name in ("m", "M", "openai/m")] == [
        *("m", "M", "openai/m")
    ]


def test_a_route_for_every_name_takes_those_that_nothing_else_answers_to() -> None:
    every = Route(name="*", model="m", total=9)
    made = routes("m", "n", route=[every, Route(name="chat", model="n")])
    plan = made.plan("gpt-99", CHAT)
    assert (plan.name, plan.model, plan.route, plan.total) == ("gpt-99", "m", "*", 9.0)
    assert [made.plan(name, CHAT).model for name in ("n", "N", "Chat", None)] == ["n"] * 3 + ["m"]
    assert made.names() == ["chat", "m", "n"], "it is no name itself"
    with pytest.raises(ValueError, match="needs a model"):
        Route(name="*")


def test_a_route_for_every_name_may_lead_to_providers_alone() -> None:
    catalog = Catalog(lambda: 0.0)
    catalog.hear(card("fb-1", "*", role=Role.FALLBACK))
    provider = {"name": "p", "url": "http://127.0.0.1:1"}
    route = {"name": "*", "providers": ["p/x"]}
    config = Settings.model_validate({"providers": [provider], "route": [route]})
    plan = Routes(config, catalog).plan("gpt-99", CHAT)
    assert (plan.name, plan.model, plan.route, plan.paid) == ("gpt-99", "*", "*", True)


def test_plans_of_names_that_clients_make_up_are_not_kept_for_ever() -> None:
    made = routes("m", route=[Route(name="*", model="m")])
    for number in range(3000):
        made.plan(f"gpt-{number}", CHAT)
    assert len(made._plans) <= 1000


def test_with_nothing_known_the_answer_says_what_to_do() -> None:
    with pytest.raises(ModelNotFound, match=r"no default.*start a worker"):
        routes().plan(None, CHAT)


def test_a_plan_is_made_anew_once_another_card_came() -> None:
    catalog = Catalog(lambda: 0.0)
    catalog.hear(card("w-1", "z"))
    made = Routes(Settings(), catalog)
    assert made.plan(None, CHAT).model == "z"
    catalog.hear(card("w-2", "a"))
    assert made.plan(None, CHAT).model == "a"
    with pytest.raises(ModelNotFound):
        made.plan("m", CHAT)
    catalog.know("m")  # a consumer of it was found, and no card came
    assert made.plan("m", CHAT).model == "m"
    assert made.plan("m", CHAT) is made.plan("m", CHAT), "it is kept"


def test_what_its_model_can_do_is_planned_until_another_card_comes() -> None:
    catalog = Catalog(lambda: 0.0)
    lame = Ignored("seed", "no seeds")
    catalog.hear(card("w-1", models=(ServedModel("m", "e", "k", 1, ignores=(lame,)),)))
    made = Routes(Settings(), catalog)
    assert not made.plan("m", CHAT).honours({"seed": 5})
    assert made.plan("m", CHAT).honours({"user": "x"})
    assert made.plan("m", CHAT).ability is made.plan("m", CHAT).ability
    catalog.hear(card("w-1", models=(ServedModel("m", "e", "k", 1, features=("embeddings",)),)))
    assert not made.plan("m", CHAT).honours({}), "it has no chat any more"


def test_one_that_goes_to_providers_is_for_what_they_can_do() -> None:
    catalog = Catalog(lambda: 0.0)
    lame = Ignored("seed", "no seeds")
    catalog.hear(card("w-1", models=(ServedModel("m", "e", "k", 1, ignores=(lame,)),)))
    catalog.hear(card("fb-1", "m", role=Role.FALLBACK))
    provider = {"name": "p", "url": "http://127.0.0.1:1"}
    route = {"name": "m", "model": "m", "providers": ["p/x"]}
    made = Routes(Settings.model_validate({"providers": [provider], "route": [route]}), catalog)
    assert not made.plan("m", CHAT).honours({"seed": 5})
    assert made.plan("m", CHAT, "only").honours({"seed": 5})
    assert not made.plan("m", CHAT, "never").honours({"seed": 5})

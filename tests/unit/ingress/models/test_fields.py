from __future__ import annotations

from typing import Any

import pytest

from ingress.models import fields
from ingress.models.catalog import Catalog
from ingress.models.fields import Ability
from schemas.errors import UnsupportedEndpoint, UnsupportedParameter
from schemas.frames import Role
from schemas.nodes import Ignored, ServedModel
from tests.unit import fakes

NONE: frozenset[str] = frozenset()
CHOICES = frozenset({"n"})


def able(*models: ServedModel, feature: str = "chat") -> Ability:
    catalog = Catalog(lambda: 0.0)
    for number, model in enumerate(models):
        catalog.hear(fakes.card(f"w-{number}", models=(model,)))
    return fields.ability(catalog, "m", feature)


def model(*features: str, slots: int = 4, ignores: tuple[Ignored, ...] = ()) -> ServedModel:
    return ServedModel("m", "e", "k", slots, features=features, ignores=ignores)


def names(found: list[Ignored]) -> list[str]:
    return [each.field for each in found]


def test_nothing_is_known_of_an_absent_model() -> None:
    ability = able()
    assert ability.lost("m", {"tools": []}, NONE) == []
    assert ability.choices == 1, "the one that comes may give no more"


def test_an_engine_that_says_nothing_may_do_everything() -> None:
    ability = able(model(), feature="embeddings")
    assert ability.lost("m", {}, NONE) == []
    assert ability.choices == 4


def test_an_endpoint_is_open_if_one_engine_has_it() -> None:
    ability = able(model("chat"), model("embeddings"))
    assert ability.lost("m", {}, NONE) == []
    ability = able(model("chat"), model("embeddings"), feature="rerank")
    with pytest.raises(UnsupportedEndpoint, match="it has /v1/chat/completions, /v1/embeddings"):
        ability.lost("m", {}, NONE)


def test_a_field_counts_only_if_every_engine_with_the_endpoint_honours_it() -> None:
    lame = Ignored("seed", "no seeds", ("chat",))
    ability = able(model("chat"), model("chat", ignores=(lame,)))
    assert ability.lost("m", {"seed": 5}, NONE) == [lame]
    ability = able(model("chat"), model("completions", ignores=(Ignored("seed", "x"),)))
    assert ability.lost("m", {"seed": 5}, NONE) == []


@pytest.mark.parametrize("value", ["a", "b"])
def test_engines_that_ignore_other_values_of_a_field_are_each_heard(value: str) -> None:
    """Whichever of them was heard last, the job may come to the other."""
    first, last = Ignored("x", "no a", unless=("b",)), Ignored("x", "no b", unless=("a",))
    ability = able(model("chat", ignores=(first,)), model("chat", ignores=(last,)))
    assert names(ability.lost("m", {"x": value}, NONE)) == ["x"]


def test_what_the_fabric_does_itself_is_not_ignored() -> None:
    ability = able(model("chat", ignores=(Ignored("n", "one", unless=(1,)),)))
    assert names(ability.lost("m", {"n": 2}, NONE)) == ["n"]
    assert ability.lost("m", {"n": 2}, CHOICES) == []
    assert ability.choices == 1


def test_choices_are_what_every_engine_can_give() -> None:
    ability = able(model("chat", "n", slots=8), model("chat", "n", slots=2))
    assert ability.choices == 2


@pytest.mark.parametrize(
    ("paid", "choices"),
    [([("chat",)], 1), ([("chat", "n")], 128), ([("chat",), ("chat", "n")], 128)],
)
def test_one_provider_that_gives_several_choices_is_enough(
    paid: list[tuple[str, ...]], choices: int
) -> None:
    catalog = Catalog(lambda: 0.0)
    models = tuple(model(*features) for features in paid)
    catalog.hear(fakes.card("fb-1", models=models, role=Role.FALLBACK))
    assert fields.ability(catalog, "m", "chat").choices == choices


@pytest.mark.parametrize(
    ("feature", "tool", "foreign"),
    [
        ("chat", {"type": "function"}, False),
        ("chat", {"type": "custom"}, True),
        ("responses", {"type": "web_search"}, True),
        ("messages", {"name": "f"}, False),
        ("messages", {"type": "custom", "name": "f"}, False),
        ("messages", {"type": "bash_20250124", "name": "bash"}, True),
        ("messages", {"type": ["odd"], "name": "f"}, True),
    ],
)
def test_tools_of_other_kinds(feature: str, tool: dict[str, Any], foreign: bool) -> None:
    request = {"tools": [tool]}
    left, found = able(model(feature), feature=feature).without_server_tools(request, ())
    assert names(found) == (["tools[0].type"] if foreign else [])
    assert left == ({} if foreign else request)
    ability = able(model(feature, fields.SERVER_TOOLS), feature=feature)
    assert ability.without_server_tools(request, ()) == (request, [])
    lost = [Ignored("tools", "no tools")]
    assert able(model(feature), feature=feature).without_server_tools(request, lost)[0] == request


def test_a_cache_is_asked_for_in_any_message() -> None:
    ability = able(model("messages", ignores=(Ignored("cache_control", "no"),)), feature="messages")
    assert ability.sign in b'[{"cache_control":{"type":"ephemeral"}}]'
    assert ability.sign not in b'["cache_control\\"]'
    assert names(ability.lost("m", {}, NONE, signed=True)) == ["cache_control"]
    assert ability.lost("m", {}, NONE) == []
    assert able(model("messages"), feature="messages").sign == b""


def test_a_refusal_names_the_first_and_a_warning_all() -> None:
    found = [Ignored("a", "so"), Ignored("b", "thus — truly\n")]
    with pytest.raises(UnsupportedParameter) as caught:
        fields.refuse("m", found, "chat")
    assert caught.value.param == "a"
    assert fields.warning(found) == "a has no effect: so; b has no effect: thus ? truly "
    fields.refuse("m", [], "chat")
    fields.refuse("m", [Ignored("c", "perhaps", tried=True)], "chat")
    hint = Ignored("seed", "no seeds")
    assert fields.refuse("m", [hint], "messages") == [hint]
    with pytest.raises(UnsupportedParameter):
        fields.refuse("m", [hint], "chat")


def test_a_long_warning_counts_the_last_fields() -> None:
    told = fields.warning([Ignored(f"field{number}", "y" * 60) for number in range(50)])
    assert told.startswith("field0 has no effect: yyy")
    assert told.endswith("; and 39 more have no effect")
    assert len(told) < 1050


# Fields that nobody is known to have.

KNOWS = ("chat,completions grammar min_p", "chat id_slot")


def own(kind: str, *knows: str, ignores: tuple[Ignored, ...] = ()) -> ServedModel:
    return ServedModel("m", "e", kind, 4, features=("chat",), ignores=ignores, knows=knows)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"messages": [], "temperature": 1, "metadata": {}, "web_search_options": {}}, ""),
        ({"grammar": "x", "id_slot": 1}, ""),
        ({"lame": 1}, ""),
        (
            {"temprature": 1},
            "'temprature' is known neither to OpenAI's API nor to llama-server;"
            " did you mean 'temperature'?",
        ),
        ({"gramar": 1}, "'gramar' is known neither to OpenAI's API nor to llama-server;"
         " did you mean 'grammar'?"),
        ({"qqq": 1}, "'qqq' is known neither to OpenAI's API nor to llama-server"),
    ],
)  # fmt: skip
def test_what_nobody_is_known_to_have_is_told_of(request_: dict[str, Any], told: str) -> None:
    ability = able(own("llamacpp", *KNOWS, ignores=(Ignored("lame", "so"),)))
    assert ability.strange(request_) == told


def test_of_an_engine_that_does_not_tell_nothing_is_known() -> None:
    for models in ((), (own("openai"),), (own("llamacpp", "completions grammar"),)):
        ability = able(*models)
        assert ability.strange({"temprature": 1}) == ""


def test_what_only_one_of_two_engines_has_may_be_passed_over() -> None:
    ability = able(own("llamacpp", *KNOWS), own("vllm", "chat min_p"))
    assert ability.strange({"min_p": 1}) == ""
    told = ability.strange({"id_slot": 1})
    assert told == "'id_slot' is known neither to OpenAI's API nor to vLLM"
    told = ability.strange({"qqq": 1})
    assert told == "'qqq' is known neither to OpenAI's API nor to llama-server or vLLM"


def test_many_and_long_strange_names_stay_short() -> None:
    ability = able(own("llamacpp", *KNOWS))
    odd = {f"{number}{'z' * 5000}\n": 1 for number in range(9)}
    told = fields.warning([Ignored("a", "so")], ability.strange(odd))
    assert told.startswith("a has no effect: so; '0zzz")
    assert told.endswith("and 5 more")
    assert len(told) < 1000
    assert told.isprintable()


def test_what_was_meant_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sends the same fields each time, and each took longer than all else here."""
    looked: list[str] = []

    def close(name: str, *_: object) -> list[str]:
        looked.append(name)
        return []

    monkeypatch.setattr(fields, "get_close_matches", close)
    ability = able(own("llamacpp", "chat n_probs"))
    for _ in range(3):
        assert "'chat_id' is known neither" in ability.strange({"chat_id": 1})
    assert looked == ["chat_id"]
    for number in range(2 * fields._KEPT):
        ability.strange({f"odd{number}": 1})
    assert len(ability._doubts) <= fields._KEPT

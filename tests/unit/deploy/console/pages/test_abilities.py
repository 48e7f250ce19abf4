"""What models can do for the playground."""

from __future__ import annotations

from typing import Any

from deploy.console.pages.abilities import Model, models


def _only(**facts: Any) -> Model:
    whole = {"engines": ["llamacpp"], "nodes": ["a"], "features": ["chat"], **facts}
    (found,) = models({"data": [{"id": "m", "headrace": whole}]})
    return found


def test_a_model_that_sees_is_shown_pictures() -> None:
    found = _only(modalities=["text", "vision"])
    assert (found.sees, found.hears, found.thinks, found.modes) == (True, False, False, ["Chat"])


def test_an_engine_that_does_not_tell_may_be_asked_for_anything() -> None:
    found = _only(engines=["openai"], features=[])
    assert (found.sees, found.hears) == (True, True)
    assert found.modes == ["Chat", "Transcription", "Picture"]


def test_a_model_has_the_modes_of_its_endpoints() -> None:
    assert _only(features=["transcriptions", "translations"]).modes == ["Transcription"]
    assert _only(features=["transcriptions", "translations"]).translates
    assert _only(features=["images", "edits"]).modes == ["Picture"]


def test_a_model_without_use_here_is_not_listed() -> None:
    entry = {"id": "m", "headrace": {"engines": ["llamacpp"], "features": ["embeddings"]}}
    assert models({"data": [entry]}) == []


def test_fields_without_an_effect_on_chats_are_known() -> None:
    ignores = {"seed": {"why": "x"}, "user": {"why": "x", "at": ["responses"]}}
    assert _only(ignores=ignores).ignores == {"seed"}


def test_who_serves_is_said() -> None:
    assert _only(providers=["openai"]).where() == "a, provider openai"
    assert _only(nodes=[]).where() == "nobody"


def test_an_odd_list_does_no_harm() -> None:
    assert models(
        {"data": [1, {"id": 2, "headrace": 3}, {"headrace": {"ignores": [], "nodes": 1}}]}
    )
    assert models({}) == []

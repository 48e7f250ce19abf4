"""Ollama's lists of models, from OpenAI's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ollama import ListResponse, ProcessResponse, ShowResponse

from schemas.api.ollama import models


def entry(name: str = "org/mill", **told: Any) -> dict[str, Any]:
    about = {"engines": ["llamacpp"], "context": 4096, "features": [], "modalities": [], **told}
    return {"id": name, "created": 1700000000, "headrace": about}


@pytest.mark.parametrize(
    ("name", "full"),
    [("mill", "mill:latest"), ("mill:7b", "mill:7b"), ("host:80/mill", "host:80/mill:latest")],
)
def test_a_name_has_a_tag(name: str, full: str) -> None:
    assert models.tagged(name) == full
    assert models.listed(entry(name))["model"] == full


@pytest.mark.parametrize(
    ("features", "modalities", "found"),
    [
        ([], ["text"], ["completion"]),
        (["chat", "tools", "reasoning"], ["text"], ["completion", "tools", "thinking"]),
        (["chat"], ["text", "vision"], ["completion", "vision"]),
        (["embeddings"], ["text"], ["embedding"]),
        (["completions", "suffix"], ["text"], ["completion", "insert"]),
    ],
)
def test_capabilities(features: list[str], modalities: list[str], found: list[str]) -> None:
    told = entry(features=features, modalities=modalities)
    assert models.capabilities(told) == found
    assert models.shown(told)["capabilities"] == models.listed(told)["capabilities"] == found


def test_the_official_client_reads_them() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    listed = ListResponse(models=[models.listed(entry())]).models[0]
    running = ProcessResponse(models=[models.running(entry(), now)]).models[0]
    shown = ShowResponse(**models.shown(entry()))
    assert listed.modified_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (listed.digest, listed.model) == (running.digest, running.model)
    assert running.expires_at is not None
    assert running.expires_at.year > 2300
    architecture = (shown.modelinfo or {})["general.architecture"]
    assert (shown.modelinfo or {})[f"{architecture}.context_length"] == 4096


def test_names_have_digests_of_their_own() -> None:
    assert models.listed(entry("a"))["digest"] != models.listed(entry("b"))["digest"]


def test_an_unknown_context_is_not_told() -> None:
    assert not [key for key in models.shown(entry(context=0))["model_info"] if "context" in key]


@pytest.mark.parametrize(
    ("features", "found"),
    [(["chat"], ["completion"]), (["chat", "vision"], ["completion", "vision", "multimodal"])],
)
def test_beside_openais_list_it_is_as_llama_server_gives_it(
    features: list[str], found: list[str]
) -> None:
    told = models.beside(entry(features=features, modalities=[]))
    assert (told["name"], told["model"], told["type"]) == ("org/mill", "org/mill", "model")
    assert told["capabilities"] == found

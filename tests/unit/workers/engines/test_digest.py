"""What tells the weights of two engines apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.settings import Engine
from tests.doubles.drive import config, opened
from tests.doubles.ollama.server import Ollama
from workers.engines import digest
from workers.engines.llamacpp import capabilities
from workers.engines.ollama.engine import OllamaEngine
from workers.engines.vllm import VllmEngine

MIB = 2**20
PROPS = {"model_path": "/m/a.gguf", "build_info": "b1", "chat_template": "t", "total_slots": 1}
ENTRY = {"meta": {"size": 10, "n_params": 3}}


def engine(**more: object) -> Engine:
    return Engine.model_validate({"name": "e", "url": "http://127.0.0.1:1", **more})


def test_a_word_of_the_config_counts_before_all() -> None:
    assert digest.said(engine(digest="v2"), "told") == "v2"


def test_who_says_nothing_has_none() -> None:
    assert digest.said(engine()) == digest.said(engine(), None, "") == ""


def test_other_words_make_another_one() -> None:
    told = [digest.said(engine(), *words) for words in (["a"], ["b"], ["a", "b"], ["ab"])]
    assert len({*told}) == len(told)
    assert digest.said(engine(), "a") == told[0]
    assert digest.said(engine(kind="ollama"), "a") != told[0]


@pytest.mark.parametrize("at", [0, MIB // 2, 5 * MIB - 1])
def test_another_file_of_the_same_size_and_time_makes_another_one(tmp_path: Path, at: int) -> None:
    file, content = tmp_path / "m.gguf", bytearray(5 * MIB)
    found = []
    for byte in (0, 1):
        content[at] = byte
        file.write_bytes(content)
        os.utime(file, (1e9, 1e9))
        found.append(digest.of_file(str(file)))
    assert "" != found[0] != found[1]


def test_a_file_that_was_written_again_makes_another_one(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"weights")
    os.utime(file, (1e9, 1e9))
    before = digest.of_file(str(file))
    os.utime(file, (1e9 + 1, 1e9 + 1))
    assert digest.of_file(str(file)) != before


def test_a_file_that_is_not_here_says_nothing(tmp_path: Path) -> None:
    assert digest.of_file(str(tmp_path / "none")) == digest.of_file("") == ""


@pytest.mark.parametrize(
    ("props", "entry"),
    [
        ({"model_path": "/m/b.gguf"}, {}),
        ({"build_info": "b2"}, {}),
        ({"chat_template": "u"}, {}),
        ({"default_generation_settings": {"n_ctx": 64, "params": {"top_k": 1}}}, {}),
        ({}, {"meta": {"size": 11, "n_params": 3}}),
        ({}, {"meta": {"size": 10, "n_params": 4}}),
    ],
)
def test_llama_server_is_told_apart_by_what_it_says(
    props: dict[str, object], entry: dict[str, object]
) -> None:
    same = digest.said(engine(), *capabilities.weights(PROPS, ENTRY))
    other = digest.said(engine(), *capabilities.weights({**PROPS, **props}, {**ENTRY, **entry}))
    assert "" not in (same, other)
    assert same != other


@pytest.mark.parametrize(("props", "entry"), [({}, ENTRY), (PROPS, {})])
def test_a_llama_server_that_names_no_file_says_nothing(
    props: dict[str, object], entry: dict[str, object]
) -> None:
    assert digest.said(engine(), *capabilities.weights(props, entry)) == ""


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        (["process_start_time_seconds 1.76e+09", "process_start_time_seconds 1.77e+09"], True),
        (["", "vllm:cache_config_info 1"], False),
    ],
)
async def test_a_vllm_is_told_apart_by_when_it_was_started(lines: list[str], known: bool) -> None:
    found = []
    for line in lines:
        made = VllmEngine(engine(kind="vllm"))
        made._page = f"# HELP x\n{line}\n".encode()
        found.append(digest.said(engine(kind="vllm"), *made._weights({"root": "some/tiny"})))
    assert all(map(bool, found)) == known
    assert len({*found}) == (2 if known else 1)


async def test_ollama_says_its_own() -> None:
    async with Ollama() as server, opened(OllamaEngine(config("ollama", server.url))) as made:
        offer = await made.discover()
    assert offer.models
    assert all(model.digest for model in offer.models)

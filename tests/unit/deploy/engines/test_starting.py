"""The tables that are written for model files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.engines import model_file, starting
from deploy.engines.faults import BadInput
from deploy.engines.machine import Machine
from deploy.engines.starting import Made, Wish
from schemas.settings import Engine
from tests.unit.deploy.engines import files
from tests.unit.deploy.engines.files import CLIP, LLAMA

GIB = 2**30
PROGRAMS = {name: f"/usr/bin/{name}" for name in ("llama-server", "whisper-server", "sd-server")}
CPU = Machine(64 * GIB, programs=PROGRAMS)
GPU = Machine(64 * GIB, "nvidia", 24 * GIB, PROGRAMS)
BUILT_IN = Machine(64 * GIB, built_in=True)


def made(
    path: Path, here: Machine = CPU, wish: Wish | None = None, served: tuple[str, ...] = ()
) -> Made:
    found = starting.table(model_file.read(path), here, wish or Wish(), served)
    Engine.model_validate(found.table)
    return found


def words(found: Made) -> str:
    return " ".join(found.table["command"])


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return files.gguf(tmp_path / "llama-8b.gguf", LLAMA, size=5 * GIB)


def test_text_on_a_cpu(llama: Path) -> None:
    found = made(llama)
    assert found.table["kind"] == "llamacpp"
    assert found.table["file"] == str(llama)
    assert found.table["models"] == ["llama-8b"]
    assert words(found) == (
        "/usr/bin/llama-server -m {file} --alias llama-8b --host 127.0.0.1 --port {port} "
        "-np 4 -c 65536 --jinja"
    )
    assert found.notes == ("chat: 4 slots of 16384 tokens",)


def test_text_on_a_gpu(llama: Path) -> None:
    found = made(llama, GPU)
    assert "-ngl 999" in words(found)
    assert found.notes == ("chat: 4 slots of 16384 tokens, all layers on the GPU",)


def test_text_that_is_too_large_for_the_gpu(llama: Path) -> None:
    found = made(llama, Machine(64 * GIB, "nvidia", 4 * GIB, PROGRAMS))
    assert "-ngl 17" in words(found)
    assert "17 of 32 layers on the GPU" in found.notes[0]


def test_it_says_that_it_may_not_fit(llama: Path) -> None:
    found = made(llama, Machine(4 * GIB, programs=PROGRAMS))
    assert "it may not fit: its file has 5.0 GiB, and 4.0 GiB are free" in found.notes


def test_with_what_the_user_says(llama: Path) -> None:
    wish = Wish("big", ("gpt-4o", "big"), 2, 4096, 7, more=("--threads", "3"))
    found = made(llama, GPU, wish)
    assert (found.table["name"], found.table["models"]) == ("big", ["gpt-4o", "big"])
    assert "--alias gpt-4o " in words(found)
    assert "-np 2 -c 4096 -ngl 7" in words(found)
    assert words(found).endswith("--jinja --threads 3")


def test_it_sees_with_the_projector_beside_it(llama: Path) -> None:
    eyes = files.gguf(llama.with_name("mmproj-llama-8b.gguf"), CLIP)
    assert f"--mmproj {eyes}" in words(made(llama))
    assert "it sees or hears with mmproj-llama-8b.gguf" in made(llama).notes
    assert "--mmproj" not in words(made(llama, wish=Wish(projector="none")))


def test_a_projector_that_does_not_fit_is_refused(llama: Path) -> None:
    with pytest.raises(BadInput, match="is no mmproj for"):
        made(llama, wish=Wish(projector=str(llama)))


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        (
            {"general.architecture": "bert", "bert.context_length": 512},
            "--embedding -b 512 -ub 512",
        ),
        (
            {"general.architecture": "q", "q.context_length": 8192, "q.pooling_type": 4},
            "--reranking -b 8192 -ub 8192",
        ),
    ],
)
def test_vectors_and_ranks(tmp_path: Path, values: dict[str, Any], flags: str) -> None:
    found = made(files.gguf(tmp_path / "m.gguf", values))
    assert words(found).endswith(flags)
    assert "--jinja" not in words(found)


def test_the_built_in_server_where_there_is_no_other(llama: Path) -> None:
    found = made(llama, BUILT_IN)
    assert found.table == {
        "name": "llama-8b",
        "kind": "embedded",
        "file": str(llama),
        "models": ["llama-8b"],
        "context": 65_536,
        "slots": 4,
    }
    assert found.notes[1] == "llama-server is not in PATH, so the built-in server is taken"


def test_the_built_in_server_beside_a_gpu_says_that_it_leaves_it(llama: Path) -> None:
    found = made(llama, Machine(64 * GIB, "nvidia", 24 * GIB, built_in=True))
    assert "it does not use the GPU: for that, put llama-server into PATH" in found.notes[1]
    with pytest.raises(BadInput, match="--gpu-layers is for llama-server"):
        made(llama, BUILT_IN, Wish(layers=3))


def test_the_built_in_server_sees_and_makes_vectors(tmp_path: Path, llama: Path) -> None:
    eyes = files.gguf(llama.with_name("mmproj-llama-8b.gguf"), CLIP)
    found = made(llama, BUILT_IN)
    assert found.table["kind"] == "llamacpp"
    assert found.table["command"][0] == sys.executable
    assert f"--mmproj {eyes}" in words(found)
    vectors = files.gguf(tmp_path / "v.gguf", {"general.architecture": "bert"})
    assert words(made(vectors, BUILT_IN)).endswith("--embedding")


def test_sounds(tmp_path: Path) -> None:
    path = files.whisper(tmp_path / "ggml-base.bin")
    found = made(path)
    assert (found.table["kind"], found.table["models"]) == (
        "whisper",
        ["whisper-1", "whisper-base"],
    )
    assert words(found) == "/usr/bin/whisper-server -m {file} --host 127.0.0.1 --port {port}"
    assert made(path, served=("whisper-1",)).table["models"] == ["whisper-base"]


def test_pictures(tmp_path: Path) -> None:
    path = files.safetensors(tmp_path / "flux.safetensors", ["double_blocks.0.x"])
    for name in ("ae.safetensors", "clip_l.safetensors"):
        (tmp_path / name).touch()
    found = made(path)
    assert words(found) == (
        f"/usr/bin/sd-server --diffusion-model {{file}} --vae {tmp_path}/ae.safetensors "
        f"--clip_l {tmp_path}/clip_l.safetensors --listen-ip 127.0.0.1 --listen-port {{port}}"
    )
    assert "it follows prompts better with t5xxl beside it" in found.notes


def test_pictures_of_a_whole_checkpoint(tmp_path: Path) -> None:
    names = ["model.diffusion_model.input_blocks.0", "cond_stage_model.a"]
    assert "-m {file} --listen-ip" in words(
        made(files.safetensors(tmp_path / "sd.safetensors", names))
    )


@pytest.mark.parametrize(
    "wish", [Wish(slots=2), Wish(context=9), Wish(layers=0), Wish(projector="x")]
)
def test_what_does_nothing_is_refused(tmp_path: Path, wish: Wish) -> None:
    with pytest.raises(BadInput, match="is only for models of text"):
        made(files.whisper(tmp_path / "ggml-base.bin"), wish=wish)


def test_without_a_program(tmp_path: Path, llama: Path) -> None:
    nothing = Machine(64 * GIB)
    with pytest.raises(BadInput, match=r"llama-server, which is not in PATH: install llama\.cpp"):
        made(llama, nothing)
    with pytest.raises(BadInput, match="whisper-server, which is not in PATH"):
        made(files.whisper(tmp_path / "ggml-base.bin"), nothing)
    with pytest.raises(BadInput, match="--program nowhere/x: there is no such program"):
        made(llama, nothing, Wish(program="nowhere/x"))
    assert made(llama, nothing, Wish(program=sys.executable)).table["command"][0] == sys.executable

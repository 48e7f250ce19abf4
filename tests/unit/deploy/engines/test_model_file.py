"""Which model a file holds, by what is in it and not by how it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.engines import model_file
from deploy.engines.faults import BadInput
from tests.unit.deploy.engines import files
from workers.engines.llamacpp import server


def test_a_model_of_text() -> None:
    found = model_file.read(server.default_model())
    assert (found.kind, found.does, found.family) == ("llamacpp", "chat", "")
    assert found.name == "SmolLM2-135M-Instruct.Q4_1"
    assert found.size == server.default_model().stat().st_size


@pytest.mark.parametrize(
    ("values", "does"),
    [
        ({"general.architecture": "bert"}, "embeddings"),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 3}, "embeddings"),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 4}, "rerank"),
        ({"general.architecture": "bert", "bert.pooling_type": 4}, "rerank"),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 0}, "chat"),
        ({"general.architecture": "of-next-year"}, "chat"),
    ],
)
def test_what_a_model_of_text_does(tmp_path: Path, values: dict[str, object], does: str) -> None:
    assert model_file.read(files.gguf(tmp_path / "m.gguf", values)).does == does


def test_a_model_in_parts_is_as_large_as_all_of_them(tmp_path: Path) -> None:
    first, second = (tmp_path / f"big-{n:05}-of-00002.gguf" for n in (1, 2))
    files.gguf(first, files.LLAMA, size=1000)
    with pytest.raises(BadInput, match=r"big-00002-of-00002\.gguf is missing"):
        model_file.read(first)
    files.gguf(second, {}, size=2000)
    found = model_file.read(first)
    assert (found.size, found.name) == (3000, "big")
    with pytest.raises(BadInput, match=r"name the first one, big-00001-of-00002\.gguf"):
        model_file.read(second)


def test_a_file_of_ollamas_has_the_name_within(tmp_path: Path) -> None:
    path = tmp_path / f"sha256-{'0a' * 32}"
    files.gguf(path, {**files.LLAMA, "general.name": "Llama 3.1 8B (Instruct)"})
    assert model_file.read(path).name == "llama-3.1-8b-instruct"


@pytest.mark.parametrize(
    ("name", "served"),
    [("ggml-base.en.bin", "whisper-base.en"), ("whisper-large.bin", "whisper-large")],
)
def test_a_whisper_model(tmp_path: Path, name: str, served: str) -> None:
    found = model_file.read(files.whisper(tmp_path / name))
    assert (found.kind, found.does, found.name) == ("whisper", "transcriptions", served)


@pytest.mark.parametrize(
    ("architecture", "tensors", "family"),
    [
        ("flux", ["double_blocks.0.img_attn.qkv.weight"], "flux"),
        ("lumina2", ["layers.0.attention.qkv.weight"], "z_image"),
        ("sd1", ["cond_stage_model.a", "model.diffusion_model.b"], ""),
        ("", ["model.diffusion_model.input_blocks.0", "first_stage_model.a"], ""),
        ("", ["model.diffusion_model.double_blocks.0.x"], "flux"),
    ],
)
def test_a_painter_as_gguf(
    tmp_path: Path, architecture: str, tensors: list[str], family: str
) -> None:
    values = {"general.architecture": architecture} if architecture else {}
    found = model_file.read(files.gguf(tmp_path / "m.gguf", values, tensors))
    assert (found.kind, found.does, found.family) == ("sdcpp", "pictures", family)


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        (["model.diffusion_model.input_blocks.0.x", "cond_stage_model.a"], ""),
        (["model.diffusion_model.input_blocks.0.x", "conditioner.a"], ""),
        (["double_blocks.0.x"], "flux"),
        (["joint_blocks.0.x"], "sd3"),
        (["down_blocks.0.x"], "sd1"),
    ],
)
def test_a_painter_as_safetensors(tmp_path: Path, tensors: list[str], family: str) -> None:
    found = model_file.read(files.safetensors(tmp_path / "m.safetensors", tensors))
    assert (found.kind, found.family) == ("sdcpp", family)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (files.CLIP, "eyes or ears"),
        ({"general.architecture": "llama", "general.type": "adapter"}, "LoRA adapter"),
        ({"general.architecture": "wan"}, "makes films"),
    ],
)
def test_parts_and_strangers_as_gguf(tmp_path: Path, values: dict[str, object], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        model_file.read(files.gguf(tmp_path / "m.gguf", values))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no model that is known"),
        (b"hello", "no model that is known"),
        (b"PK\x03\x04" + bytes(60), "PyTorch"),
        (b"tjgg" + bytes(60), "get the model as GGUF"),
        (b"lmgg", "was all of it copied"),
        (b"lmgg" + bytes(60), "no Whisper model"),
        (b"GGUF", "was all of it copied"),
        ((2**40).to_bytes(8, "little") + b"{}", "no model that is known"),
        ((5).to_bytes(8, "little") + b"{nope" + bytes(9), "no model that is known"),
        ((90_005).to_bytes(8, "little") + b'{"a":' + b"[" * 90_000, "no model that is known"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=why):
        model_file.read(path)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (["model.layers.0.mlp.down_proj.weight"], "as transformers has it"),
        (["lora_unet_down.lora_up.weight"], "is a LoRA"),
        (["x"], "not known"),
        ([], "not known"),
    ],
)
def test_safetensors_that_draw_nothing(tmp_path: Path, tensors: list[str], why: str) -> None:
    path = files.safetensors(tmp_path / "m.safetensors", tensors)
    with pytest.raises(BadInput, match=why.replace("not known", "is known how|it is known")):
        model_file.read(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(BadInput, match="is no file, but a pipe"):
        model_file.read(tmp_path / "m.gguf")


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    files.gguf(tmp_path / "a.gguf", files.LLAMA)
    with pytest.raises(BadInput, match=r"is a folder: name the model's file in it, as a\.gguf"):
        model_file.read(tmp_path)
    with pytest.raises(BadInput, match="No such file"):
        model_file.read(tmp_path / "nothing.gguf")

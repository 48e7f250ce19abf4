"""What is found beside a model's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.engines import beside
from deploy.engines.faults import BadInput
from deploy.engines.gguf import Head
from tests.unit.deploy.engines import files
from tests.unit.deploy.engines.files import CLIP, LLAMA

HEAD = Head(dict(LLAMA))


def model(folder: Path, name: str = "gemma-3-4b-it-Q4_K_M.gguf") -> Path:
    return files.gguf(folder / name, LLAMA)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_no_projector(tmp_path: Path) -> None:
    own = model(tmp_path)
    files.gguf(tmp_path / "other.gguf", CLIP)  # it does not say so
    touch(tmp_path, "mmproj.txt", "mmproj.gguf")
    assert beside.projector(own, HEAD) is None


def test_a_projector_of_another_width_is_none(tmp_path: Path) -> None:
    own = model(tmp_path)
    files.gguf(tmp_path / "mmproj-f16.gguf", {**CLIP, "clip.vision.projection_dim": 2560})
    assert beside.projector(own, HEAD) is None


def test_of_several_projectors_the_one_whose_name_fits(tmp_path: Path) -> None:
    own = model(tmp_path)
    for name in ("mmproj-llama-3-f16.gguf", "mmproj-model-gemma-3-4b-it-f16.gguf", "mmproj.gguf"):
        files.gguf(tmp_path / name, CLIP)
    found = beside.projector(own, HEAD)
    assert found is not None
    assert found.name == "mmproj-model-gemma-3-4b-it-f16.gguf"


def test_ears_are_a_projector_too(tmp_path: Path) -> None:
    values = {"general.architecture": "clip", "clip.audio.projection_dim": 4096}
    assert beside.fits(files.gguf(tmp_path / "mmproj.gguf", values), HEAD)


def test_a_painter_gets_what_its_family_needs(tmp_path: Path) -> None:
    own = tmp_path / "flux1-schnell-q4_0.gguf"
    touch(tmp_path, own.name, "ae.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors")
    touch(tmp_path, "clip_g.safetensors", "taef1.safetensors", "README.md")
    found, lacking = beside.encoders(own, "flux", ())
    assert {flag: each.name for flag, each in found.items()} == {
        "vae": "ae.safetensors",
        "clip_l": "clip_l.safetensors",
        "t5xxl": "t5xxl_fp16.safetensors",
    }
    assert not lacking


def test_the_small_autoencoder_does_where_there_is_no_other(tmp_path: Path) -> None:
    own = tmp_path / "random-flux.safetensors"
    touch(tmp_path, own.name, "random-taef1.safetensors", "random-clip_l.gguf")
    found, lacking = beside.encoders(own, "flux", ())
    assert set(found) == {"tae", "clip_l"}
    assert lacking == ["t5xxl"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    own = tmp_path / "flux.gguf"
    touch(tmp_path, own.name, "clip_l.safetensors")
    with pytest.raises(BadInput, match="It needs --vae or --tae beside it"):
        beside.encoders(own, "flux", ())
    with pytest.raises(BadInput, match="It needs --clip_g and --vae or --tae beside it"):
        beside.encoders(own, "sdxl", ())


def test_what_the_user_names_is_not_missing(tmp_path: Path) -> None:
    own = tmp_path / "flux.gguf"
    touch(tmp_path, own.name, "clip_l.safetensors", "ae.safetensors")
    found, _ = beside.encoders(own, "flux", ("--vae", "/elsewhere/ae.safetensors"))
    assert set(found) == {"clip_l"}


def test_a_whole_checkpoint_needs_nothing(tmp_path: Path) -> None:
    own = tmp_path / "sd.safetensors"
    touch(tmp_path, own.name, "clip_l.safetensors")
    assert beside.encoders(own, "", ()) == ({}, [])


def test_the_language_model_of_a_painter_is_no_part_of_it(tmp_path: Path) -> None:
    own = tmp_path / "qwen-image-q4.gguf"
    touch(tmp_path, own.name, "qwen_image_vae.safetensors", "Qwen2.5-VL-7B-Instruct-Q4.gguf")
    found, _ = beside.encoders(own, "qwen_image", ())
    assert {flag: each.name for flag, each in found.items()} == {
        "vae": "qwen_image_vae.safetensors",
        "llm": "Qwen2.5-VL-7B-Instruct-Q4.gguf",
    }

"""Weights of noise: their files as stable-diffusion.cpp reads them; that it does: test_sd_live."""

from __future__ import annotations

import builtins
import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.builders import clip, flux, sd
from tests.builders.__main__ import BUILDS
from tests.builders.errors import ToolMissing


def header(path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says is in it, and how many bytes that is."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    return json.loads(raw[8 : 8 + length]), len(raw) - 8 - length


def test_tensors_lie_one_after_the_other(tmp_path: Path) -> None:
    flux.write(tmp_path)
    for name, least in ((flux.MODEL, 3_000_000), (flux.AUTOENCODER, 4_900_000)):
        tensors, size = header(tmp_path / name)
        at = 0
        for about in tensors.values():
            begin, end = about["data_offsets"]
            assert (about["dtype"], begin) == ("F16", at)
            assert end - begin == 2 * prod(about["shape"])
            at = end
        assert at == size > least


def test_one_block_of_each_kind_and_both_ways_of_the_autoencoder(tmp_path: Path) -> None:
    flux.write(tmp_path)
    tensors, _ = header(tmp_path / flux.MODEL)
    blocks = {name.rsplit(".", 3)[0].split(".")[0] + name.split(".")[1] for name in tensors}
    assert {"double_blocks0", "single_blocks0"} <= blocks
    assert not any(name.startswith("double_blocks.1") for name in tensors)
    assert tensors["img_in.weight"]["shape"] == [128, 64]
    coder, _ = header(tmp_path / flux.AUTOENCODER)
    assert coder["decoder.layers.18.weight"]["shape"] == [3, 64, 3, 3]
    assert coder["encoder.layers.14.weight"]["shape"] == [16, 64, 3, 3]
    assert "decoder.layers.6.bias" not in coder, "upsampled without"


def test_the_same_weights_each_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        flux.write(tmp_path / folder)
    for name in (flux.MODEL, flux.AUTOENCODER):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_reader_has_twelve_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one: the true size takes two seconds."""
    monkeypatch.setattr(clip, "_VOCABULARY", 64)
    monkeypatch.setattr(clip, "_WIDTH", 32)
    monkeypatch.setattr(clip, "_INNER", 64)
    clip.write(tmp_path)
    tensors = {each.name: each for each in gguf.GGUFReader(tmp_path / clip.FILE).tensors}
    assert len(tensors) == 4 + 12 * 16
    words = tensors["text_model.embeddings.token_embedding.weight"]
    assert words.tensor_type == gguf.GGMLQuantizationType.Q4_0
    assert list(words.shape) == [32, 64]
    assert tensors["text_model.final_layer_norm.weight"].data.tolist() == [1.0] * 32


@pytest.mark.parametrize("module", [flux, clip])
def test_a_missing_library_is_told(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name in ("numpy", "gguf"):
            raise ImportError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolMissing, match="is not installed: pip install"):
        module.write(tmp_path)


def test_an_empty_cache_has_none_and_the_command_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sd.find() is None
    assert BUILDS["sd"] is sd.build

"""A reader that understands nothing: CLIP-L, the text encoder of Flux, of random weights.

Without one sd-server dies of its first job. stable-diffusion.cpp fixes its size and carries its
vocabulary itself, so the file has the true size of 70 MB as Q4_0 and no words in it. All layers
share one set of matrices, in order not to roll dice for a minute. It needs `gguf`, which is among
the dependencies for development.

Names and shapes: clip.hpp of stable-diffusion.cpp, which follow OpenAI's CLIP ViT-L/14.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.builders.errors import ToolMissing

FILE = "random-clip_l-q4_0.gguf"

_VOCABULARY, _POSITIONS, _WIDTH, _INNER, _LAYERS = 49408, 77, 768, 3072, 12
_SPREAD = 0.02


def write(folder: Path) -> None:
    """The file, in two seconds. Raises ToolMissing."""
    try:
        import gguf
        import numpy as np
    except ImportError as fault:
        raise ToolMissing(f"{fault.name} is not installed: pip install gguf") from None
    dice = np.random.default_rng(3)
    packed = gguf.GGMLQuantizationType.Q4_0
    made: dict[tuple[int, int], Any] = {}
    writer = gguf.GGUFWriter(folder / FILE, "clip_l")
    for name, (rows, columns) in _matrices():
        if (rows, columns) not in made:
            values = dice.normal(0, _SPREAD, (rows, columns)).astype(np.float32)
            made[rows, columns] = gguf.quants.quantize(values, packed)
        writer.add_tensor(name, made[rows, columns], raw_dtype=packed)
    places = dice.normal(0, _SPREAD, (_POSITIONS, _WIDTH)).astype(np.float32)
    writer.add_tensor("text_model.embeddings.position_embedding.weight", places)
    for name, length, value in _vectors():
        writer.add_tensor(name, np.full(length, value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _matrices() -> Iterator[tuple[str, tuple[int, int]]]:
    yield "text_model.embeddings.token_embedding.weight", (_VOCABULARY, _WIDTH)
    for at in _layers():
        for kind in ("q", "k", "v", "out"):
            yield f"{at}.self_attn.{kind}_proj.weight", (_WIDTH, _WIDTH)
        yield f"{at}.mlp.fc1.weight", (_INNER, _WIDTH)
        yield f"{at}.mlp.fc2.weight", (_WIDTH, _INNER)


def _vectors() -> Iterator[tuple[str, int, float]]:
    """Name, length, value."""
    norms = [f"{at}.layer_norm{number}" for at in _layers() for number in (1, 2)]
    for norm in ("text_model.final_layer_norm", *norms):
        yield f"{norm}.weight", _WIDTH, 1.0
        yield f"{norm}.bias", _WIDTH, 0.0
    for at in _layers():
        for kind in ("q", "k", "v", "out"):
            yield f"{at}.self_attn.{kind}_proj.bias", _WIDTH, 0.0
        yield f"{at}.mlp.fc1.bias", _INNER, 0.0
        yield f"{at}.mlp.fc2.bias", _WIDTH, 0.0


def _layers() -> list[str]:
    return [f"text_model.encoder.layers.{number}" for number in range(_LAYERS)]

"""Eyes that see nothing: a tiny vision projector of random weights, for tests of the vision path.

llama.cpp takes pictures once it is given a projector (``--mmproj``) for its model. This one fits
SmolLM2-135M, the model of the quickstart, and takes 2 MB. What is computed with it is real (each
picture becomes 16 tokens, which are counted), though it means nothing. No public package carries a
trained one. It needs `gguf`, which is among the dependencies for development.

Tensor names and keys: llama.cpp's tools/mtmd/clip-impl.h, projector type ``mlp``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.builders import store
from tests.builders.errors import ToolMissing
from tests.builders.store import Say

# The last number counts changes of the recipe.
ENTRY = "mmproj-random-smollm2-1"
_FILE = "mmproj.gguf"

MODEL_WIDTH = 576
"""Of SmolLM2-135M's embeddings."""
_WIDTH, _INNER, _LAYERS, _HEADS = 64, 128, 2, 2
_IMAGE, _PATCH = 64, 16
"""Pixels: each picture is scaled to a square of _IMAGE, and cut into patches."""
_SPREAD = 0.05
"""Standard deviation of the weights; larger ones overflow."""

Tensor = tuple[str, tuple[int, ...], float | None]
"""Name, shape, value; without a value they are random."""


@dataclass(frozen=True, slots=True)
class Projector:
    """`file`: what ``--mmproj`` takes."""

    file: Path


def build(say: Say) -> Projector:
    """Makes it if it is not there yet: half a second, then none. Raises ToolMissing."""
    return Projector(store.obtain(ENTRY, lambda _, target: _write(target / _FILE), say) / _FILE)


def _write(path: Path) -> None:
    try:
        import gguf
        import numpy as np
    except ImportError as fault:
        raise ToolMissing(f"{fault.name} is not installed: pip install gguf") from None
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name("random-tiny-vision")
    writer.add_string("clip.projector_type", "mlp")
    for name in ("clip.has_vision_encoder", "clip.use_gelu"):
        writer.add_bool(name, True)
    for name, number in _SIZES.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    dice = random.Random(5)
    for name, shape, value in _tensors():
        count = int(np.prod(shape))
        flat = [dice.gauss(0, _SPREAD) for _ in range(count)] if value is None else [value] * count
        writer.add_tensor(name, np.array(flat, np.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_SIZES = {
    "image_size": _IMAGE,
    "preproc_image_size": _IMAGE,
    "patch_size": _PATCH,
    "embedding_length": _WIDTH,
    "feed_forward_length": _INNER,
    "projection_dim": MODEL_WIDTH,
    "block_count": _LAYERS,
    "attention.head_count": _HEADS,
    "projector.scale_factor": 2,
}


def _tensors() -> Iterator[Tensor]:
    yield "v.patch_embd.weight", (_WIDTH, 3, _PATCH, _PATCH), None
    yield "v.patch_embd.bias", (_WIDTH,), 0.0
    yield "v.position_embd.weight", ((_IMAGE // _PATCH) ** 2, _WIDTH), None
    yield from _norm("v.post_ln")
    for layer in range(_LAYERS):
        at = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _linear(f"{at}.{name}", _WIDTH, _WIDTH)
        yield from _linear(f"{at}.ffn_up", _INNER, _WIDTH)
        yield from _linear(f"{at}.ffn_down", _WIDTH, _INNER)
        yield from _norm(f"{at}.ln1")
        yield from _norm(f"{at}.ln2")
    yield from _linear("mm.0", MODEL_WIDTH, _WIDTH)
    yield from _linear("mm.2", MODEL_WIDTH, MODEL_WIDTH)


def _linear(name: str, rows: int, columns: int) -> Iterator[Tensor]:
    yield f"{name}.weight", (rows, columns), None
    yield f"{name}.bias", (rows,), 0.0


def _norm(name: str) -> Iterator[Tensor]:
    yield f"{name}.weight", (_WIDTH,), 1.0
    yield f"{name}.bias", (_WIDTH,), 0.0

"""A painter that paints noise: the least Flux that stable-diffusion.cpp loads, of random weights.

One double and one single block of width 128 instead of 19 and 38 of 3072, and TAEF1, the small
autoencoder, in its true size: 3 and 5 MB. What is computed with them is real, though it means
nothing: sizes, seeds, steps, formats and edits do what they do with a trained model.

Names and shapes: flux.hpp and tae.hpp of stable-diffusion.cpp, which follow Flux.1 and TAEF1. The
files are safetensors: u64 little-endian length of a JSON header, which names each tensor's type,
shape and place in what follows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.builders.errors import ToolMissing

MODEL = "random-flux.safetensors"
AUTOENCODER = "random-taef1.safetensors"

_WIDTH = 128
"""One head's, of which there is one."""
_PATCH, _TIME, _POOLED, _WORDS = 64, 256, 768, 4096
"""Widths of what comes in, and may not differ: picture, time, CLIP's and T5's words."""
_LATENT, _CHANNELS, _COLOURS = 16, 64, 3
_SPREAD = 0.02

Tensor = tuple[str, tuple[int, ...], float, float]
"""Name, shape, mean, standard deviation."""


def write(folder: Path) -> None:
    """Both files. Raises ToolMissing."""
    _save(folder / MODEL, _flux(), seed=7)
    _save(folder / AUTOENCODER, _taef1(), seed=8)


def _save(path: Path, tensors: Iterable[Tensor], seed: int) -> None:
    try:
        import numpy as np
    except ImportError as fault:
        raise ToolMissing(f"{fault.name} is not installed: pip install numpy") from None
    dice = np.random.default_rng(seed)
    header: dict[str, Any] = {}
    data: list[bytes] = []
    at = 0
    for name, shape, mean, spread in tensors:
        data.append(dice.normal(mean, spread, shape).astype(np.float16).tobytes())
        end = at + len(data[-1])
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    told = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + b"".join(data))


def _flux() -> Iterator[Tensor]:
    yield from _linear("img_in", _WIDTH, _PATCH)
    yield from _linear("time_in.in_layer", _WIDTH, _TIME)
    yield from _linear("time_in.out_layer", _WIDTH, _WIDTH)
    yield from _linear("vector_in.in_layer", _WIDTH, _POOLED)
    yield from _linear("vector_in.out_layer", _WIDTH, _WIDTH)
    yield from _linear("txt_in", _WIDTH, _WORDS)
    for stream in ("img", "txt"):
        at = f"double_blocks.0.{stream}"
        yield from _linear(f"{at}_mod.lin", 6 * _WIDTH, _WIDTH)
        yield from _linear(f"{at}_attn.qkv", 3 * _WIDTH, _WIDTH)
        yield from _linear(f"{at}_attn.proj", _WIDTH, _WIDTH)
        yield from _linear(f"{at}_mlp.0", 4 * _WIDTH, _WIDTH)
        yield from _linear(f"{at}_mlp.2", _WIDTH, 4 * _WIDTH)
        yield from _norms(f"{at}_attn.norm")
    at = "single_blocks.0"
    yield from _linear(f"{at}.linear1", 7 * _WIDTH, _WIDTH)
    yield from _linear(f"{at}.linear2", _WIDTH, 5 * _WIDTH)
    yield from _linear(f"{at}.modulation.lin", 3 * _WIDTH, _WIDTH)
    yield from _norms(f"{at}.norm")
    yield from _linear("final_layer.linear", _PATCH, _WIDTH)
    yield from _linear("final_layer.adaLN_modulation.1", 2 * _WIDTH, _WIDTH)


def _taef1() -> Iterator[Tensor]:
    """Layers without weights (Clamp, ReLU, Upsample) have numbers too."""
    yield from _convolution("decoder.layers.0", _CHANNELS, _LATENT)
    for group in (2, 7, 12):
        for block in range(3):
            yield from _block(f"decoder.layers.{group + block}")
        yield from _convolution(f"decoder.layers.{group + 4}", _CHANNELS, _CHANNELS, bias=False)
    yield from _block("decoder.layers.17")
    yield from _convolution("decoder.layers.18", _COLOURS, _CHANNELS)
    yield from _convolution("encoder.layers.0", _CHANNELS, _COLOURS)
    yield from _block("encoder.layers.1")
    for group in (2, 6, 10):
        yield from _convolution(f"encoder.layers.{group}", _CHANNELS, _CHANNELS, bias=False)
        for block in range(1, 4):
            yield from _block(f"encoder.layers.{group + block}")
    yield from _convolution("encoder.layers.14", _LATENT, _CHANNELS)


def _linear(name: str, rows: int, columns: int) -> Iterator[Tensor]:
    yield f"{name}.weight", (rows, columns), 0.0, _SPREAD
    yield f"{name}.bias", (rows,), 0.0, 0.0


def _norms(name: str) -> Iterator[Tensor]:
    for which in ("query", "key"):
        yield f"{name}.{which}_norm.scale", (_WIDTH,), 1.0, 0.0


def _convolution(name: str, rows: int, columns: int, *, bias: bool = True) -> Iterator[Tensor]:
    # So spread, what comes out is as large as what went in.
    yield f"{name}.weight", (rows, columns, 3, 3), 0.0, (columns * 9) ** -0.5
    if bias:
        yield f"{name}.bias", (rows,), 0.0, 0.0


def _block(name: str) -> Iterator[Tensor]:
    for layer in (0, 2, 4):
        yield from _convolution(f"{name}.conv.{layer}", _CHANNELS, _CHANNELS)

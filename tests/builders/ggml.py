"""Writes a CTranslate2 Whisper model as whisper.cpp's ggml file, 16-bit, without numpy.

Layout of the file: whisper.cpp's models/convert-pt-to-ggml.py. Vectors and positional embeddings
are 32-bit there, all other weights 16-bit and thus taken over byte by byte. CTranslate2 keeps
query, key and value as one matrix (cross attention: key and value); rows of it are the parts.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.builders import ct2
from tests.builders.ct2 import Tensor
from tests.builders.errors import ModelUnreadable

MAGIC = 0x67676D6C
SAMPLE_RATE, FFT, MELS = 16_000, 400, 80
_MULTILINGUAL = 51_865
"""Tokens of a multilingual vocabulary, or more; OpenAI's English models have one less."""

Named = tuple[str, tuple[int, ...], memoryview]


def convert(model: Path, to: Path) -> None:
    """`model`: a directory with model.bin and vocabulary.txt. Raises ModelUnreadable."""
    tensors = ct2.read((model / "model.bin").read_bytes())
    words = (model / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    try:
        with to.open("wb") as file:
            _write_head(file, tensors)
            _write_filters(file)
            _write_words(file, words, tensors["decoder/embeddings/weight"].shape[0])
            for name, shape, halves in _weights(tensors):
                _write_tensor(file, name, shape, halves)
    except (KeyError, IndexError) as fault:
        raise ModelUnreadable(f"the model has no {fault}") from None


def _write_head(file: BinaryIO, tensors: dict[str, Tensor]) -> None:
    vocabulary, width = tensors["decoder/embeddings/weight"].shape
    audio, _ = tensors["encoder/position_encodings/encodings"].shape
    text, _ = tensors["decoder/position_encodings/encodings"].shape
    heads = {side: _scalar(tensors[f"{side}/num_heads"]) for side in ("encoder", "decoder")}
    layers = {side: _layers(tensors, side) for side in ("encoder", "decoder")}
    encoder = audio, width, heads["encoder"], layers["encoder"]
    decoder = text, width, heads["decoder"], layers["decoder"]
    file.write(struct.pack("<12i", MAGIC, vocabulary, *encoder, *decoder, MELS, 1))


def _scalar(tensor: Tensor) -> int:
    return int.from_bytes(tensor.data, "little", signed=True)


def _layers(tensors: dict[str, Tensor], side: str) -> int:
    return len({name for name in tensors if _is_layer(name, side)})


def _is_layer(name: str, side: str) -> bool:
    return name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight")


def _write_filters(file: BinaryIO) -> None:
    """The mel filter bank (Slaney's, as librosa's default): triangles of equal area."""
    bins = [SAMPLE_RATE / 2 * k / (FFT // 2) for k in range(FFT // 2 + 1)]
    top = _mel(SAMPLE_RATE / 2)
    edges = [_hertz(top * k / (MELS + 1)) for k in range(MELS + 2)]
    bank = array("f")
    for left, middle, right in zip(edges, edges[1:], edges[2:], strict=False):
        area = 2 / (right - left)
        for f in bins:
            slopes = (f - left) / (middle - left), (right - f) / (right - middle)
            bank.append(max(0.0, min(slopes)) * area)
    file.write(struct.pack("<2i", MELS, len(bins)) + _little(bank))


def _mel(hertz: float) -> float:
    if hertz < 1000:
        return hertz * 3 / 200
    return 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def _hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)


def _write_words(file: BinaryIO, words: list[str], vocabulary: int) -> None:
    """The text tokens alone: whisper.cpp knows the special ones by their numbers."""
    count = 50_257 if vocabulary >= _MULTILINGUAL else 50_256
    alphabet = _alphabet()
    file.write(struct.pack("<i", count))
    for index in range(count):
        token = bytes(alphabet[letter] for letter in words[index])
        file.write(struct.pack("<i", len(token)) + token)


def _alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: itself if printable, else a letter from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + k): b for k, b in enumerate(rest)}


def _weights(tensors: dict[str, Tensor]) -> Iterator[Named]:
    """(whisper.cpp's name, shape, 16-bit data) of every tensor of the file."""
    for side in ("encoder", "decoder"):
        yield _one(tensors, f"{side}/position_encodings/encodings", f"{side}.positional_embedding")
        final = "encoder.ln_post" if side == "encoder" else "decoder.ln"
        yield from _norm(tensors, f"{side}/layer_norm", final)
        for index in range(_layers(tensors, side)):
            yield from _block(tensors, f"{side}/layer_{index}", f"{side}.blocks.{index}", side)
    yield _one(tensors, "decoder/embeddings/weight", "decoder.token_embedding.weight")
    for index in (1, 2):
        yield _one(tensors, f"encoder/conv{index}/weight", f"encoder.conv{index}.weight")
        name, (size,), data = _one(
            tensors, f"encoder/conv{index}/bias", f"encoder.conv{index}.bias"
        )
        yield name, (size, 1), data


def _block(tensors: dict[str, Tensor], of: str, to: str, side: str) -> Iterator[Named]:
    yield from _norm(tensors, f"{of}/self_attention/layer_norm", f"{to}.attn_ln")
    yield from _rows(tensors, f"{of}/self_attention/linear_0", to + ".attn", _QKV)
    yield from _rows(tensors, f"{of}/self_attention/linear_1", to + ".attn", ("out",))
    if side == "decoder":
        yield from _norm(tensors, f"{of}/attention/layer_norm", f"{to}.cross_attn_ln")
        yield from _rows(tensors, f"{of}/attention/linear_0", to + ".cross_attn", _QKV[:1])
        yield from _rows(tensors, f"{of}/attention/linear_1", to + ".cross_attn", _QKV[1:])
        yield from _rows(tensors, f"{of}/attention/linear_2", to + ".cross_attn", ("out",))
    yield from _norm(tensors, f"{of}/ffn/layer_norm", f"{to}.mlp_ln")
    for linear, layer in ((0, "0"), (1, "2")):
        yield from _rows(tensors, f"{of}/ffn/linear_{linear}", f"{to}.mlp", (layer,))


_QKV = ("query", "key", "value")


def _one(tensors: dict[str, Tensor], of: str, to: str) -> Named:
    return to, tensors[of].shape, tensors[of].halves()


def _norm(tensors: dict[str, Tensor], of: str, to: str) -> Iterator[Named]:
    yield _one(tensors, f"{of}/gamma", f"{to}.weight")
    yield _one(tensors, f"{of}/beta", f"{to}.bias")


def _rows(tensors: dict[str, Tensor], of: str, to: str, parts: tuple[str, ...]) -> Iterator[Named]:
    """A linear layer, cut into `parts` of equal height; Whisper's keys have no bias."""
    for kind in ("weight", "bias"):
        whole = tensors[f"{of}/{kind}"]
        rows = whole.shape[0] // len(parts)
        for index, part in enumerate(parts):
            if (part, kind) != ("key", "bias"):
                data = whole.halves(index * rows, rows)
                yield f"{to}.{part}.{kind}", (rows, *whole.shape[1:]), data


def _write_tensor(file: BinaryIO, name: str, shape: tuple[int, ...], halves: memoryview) -> None:
    wide = len(shape) < 2 or name.endswith((".positional_embedding", "conv1.bias", "conv2.bias"))
    encoded = name.encode()
    file.write(struct.pack("<3i", len(shape), len(encoded), 0 if wide else 1))
    file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + encoded)
    file.write(_little(_widened(halves)) if wide else halves)


def _widened(halves: memoryview) -> array[float]:
    return array("f", struct.unpack(f"<{len(halves) // 2}e", halves))


def _little(values: array[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)

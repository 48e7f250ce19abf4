from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders import ct2, ggml
from tests.builders.errors import ModelUnreadable

WIDTH, HEADS, WORDS = 4, 2, 51_864
SHAPES: dict[str, tuple[int, ...]] = {
    "encoder/conv1/weight": (WIDTH, 80, 3),
    "encoder/conv1/bias": (WIDTH,),
    "encoder/conv2/weight": (WIDTH, WIDTH, 3),
    "encoder/conv2/bias": (WIDTH,),
    "encoder/position_encodings/encodings": (6, WIDTH),
    "decoder/position_encodings/encodings": (5, WIDTH),
    "decoder/embeddings/weight": (WORDS, WIDTH),
}


def _linear(name: str, rows: int, columns: int = WIDTH) -> dict[str, tuple[int, ...]]:
    return {f"{name}/weight": (rows, columns), f"{name}/bias": (rows,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}/gamma": (WIDTH,), f"{name}/beta": (WIDTH,)}


for _side in ("encoder", "decoder"):
    _layer = f"{_side}/layer_0"
    SHAPES |= _norm(f"{_side}/layer_norm") | _norm(f"{_layer}/ffn/layer_norm")
    SHAPES |= _norm(f"{_layer}/self_attention/layer_norm")
    SHAPES |= _linear(f"{_layer}/self_attention/linear_0", 3 * WIDTH)
    SHAPES |= _linear(f"{_layer}/self_attention/linear_1", WIDTH)
    SHAPES |= _linear(f"{_layer}/ffn/linear_0", 4 * WIDTH)
    SHAPES |= _linear(f"{_layer}/ffn/linear_1", WIDTH, 4 * WIDTH)
SHAPES |= _norm("decoder/layer_0/attention/layer_norm")
SHAPES |= _linear("decoder/layer_0/attention/linear_0", WIDTH)
SHAPES |= _linear("decoder/layer_0/attention/linear_1", 2 * WIDTH)
SHAPES |= _linear("decoder/layer_0/attention/linear_2", WIDTH)


def _halves(name: str, shape: tuple[int, ...]) -> bytes:
    """Values that tell the tensor and, for small ones, the place in it."""
    first = sum(name.encode()) % 64
    return b"".join(struct.pack("<e", first + i % 64) for i in range(math.prod(shape)))


def _name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def model(kind: int = ct2.FLOAT16, version: int = 6) -> bytes:
    """A CTranslate2 Whisper of one layer."""
    out = [struct.pack("<I", version), _name("WhisperSpec"), struct.pack("<I", 3)]
    heads = [f"{side}/num_heads" for side in ("encoder", "decoder")]
    out.append(struct.pack("<I", len(SHAPES) + len(heads)))
    for name, shape in SHAPES.items():
        data = _halves(name, shape)
        out += [_name(name), struct.pack(f"<B{len(shape)}I", len(shape), *shape)]
        out += [struct.pack("<BI", kind, len(data)), data]
    for name in heads:
        out += [_name(name), struct.pack("<BBI", 0, ct2.INT16, 2), struct.pack("<h", HEADS)]
    return b"".join([*out, struct.pack("<I", 0)])


class Weight(NamedTuple):
    wide: bool
    shape: tuple[int, ...]
    values: tuple[float, ...]


class Ggml(NamedTuple):
    head: tuple[int, ...]
    filters: list[tuple[float, ...]]
    words: list[bytes]
    weights: dict[str, Weight]


def parse(data: bytes) -> Ggml:
    file = io.BytesIO(data)

    def ints(count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", file.read(4 * count))

    head = ints(12)
    rows, columns = ints(2)
    filters = [struct.unpack(f"<{columns}f", file.read(4 * columns)) for _ in range(rows)]
    words = [file.read(ints(1)[0]) for _ in range(ints(1)[0])]
    weights = {}
    while file.tell() < len(data):
        rank, length, kind = ints(3)
        shape = tuple(reversed(ints(rank)))
        name = file.read(length).decode()
        form, count = ("e", math.prod(shape)) if kind else ("f", math.prod(shape))
        values = struct.unpack(f"<{count}{form}", file.read(struct.calcsize(form) * count))
        weights[name] = Weight(kind == 0, shape, values)
    return Ggml(head, filters, words, weights)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Ggml:
    place = tmp_path_factory.mktemp("model")
    (place / "model.bin").write_bytes(model())
    vocabulary = ["!", "\u0120the", "\u00c3\u0141", *["x"] * 51_861]
    (place / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    ggml.convert(place, place / "out.bin")
    return parse((place / "out.bin").read_bytes())


def values(name: str) -> tuple[float, ...]:
    data = _halves(name, SHAPES[name])
    return struct.unpack(f"<{len(data) // 2}e", data)


def test_the_head_tells_the_models_size(converted: Ggml) -> None:
    assert converted.head == (ggml.MAGIC, WORDS, 6, 4, 2, 1, 5, 4, 2, 1, 80, 1)


def test_words_are_bytes(converted: Ggml) -> None:
    assert len(converted.words) == 50_256
    assert converted.words[:3] == [b"!", b" the", "ß".encode()]


def test_filters_are_triangles_of_equal_area(converted: Ggml) -> None:
    assert (len(converted.filters), len(converted.filters[0])) == (80, 201)
    # As in the filters that openai/whisper ships (librosa.filters.mel).
    assert converted.filters[0][1] == pytest.approx(0.02486259490251541)
    for row in converted.filters[40:]:
        assert sum(row) * 40 == pytest.approx(1.0, abs=0.1)


def test_every_tensor_of_whisper_cpp_is_there(converted: Ggml) -> None:
    attention = {
        f"{part}.{kind}" for part in ("query", "value", "out") for kind in ("weight", "bias")
    }
    expected = {
        f"{side}.blocks.0.{block}.{name}"
        for side, blocks in (("encoder", ("attn",)), ("decoder", ("attn", "cross_attn")))
        for block in blocks
        for name in attention | {"key.weight"}
    }
    assert expected <= set(converted.weights)
    assert len(converted.weights) == 15 + 24 + 11


def test_joined_matrices_are_cut_into_their_parts(converted: Ggml) -> None:
    whole = values("decoder/layer_0/self_attention/linear_0/weight")
    parts = ("query", "key", "value")
    found = [converted.weights[f"decoder.blocks.0.attn.{part}.weight"] for part in parts]
    assert [part.shape for part in found] == [(WIDTH, WIDTH)] * 3
    assert tuple(value for part in found for value in part.values) == whole
    cross = values("decoder/layer_0/attention/linear_1/bias")
    assert converted.weights["decoder.blocks.0.cross_attn.value.bias"].values == cross[WIDTH:]


def test_vectors_and_positions_are_wide_and_matrices_are_not(converted: Ggml) -> None:
    for name, weight in converted.weights.items():
        small = len(weight.shape) == 1 or "positional" in name or name.endswith("conv1.bias")
        assert weight.wide == (small or name.endswith("conv2.bias")), name
    assert converted.weights["encoder.conv1.bias"].shape == (WIDTH, 1)
    assert converted.weights["encoder.positional_embedding"].values == values(
        "encoder/position_encodings/encodings"
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a CTranslate2 model"),
        (b"GGUF" + bytes(99), "version 1179993927"),
        (model(version=5), "version 5"),
        (model()[:5000], "ends in the middle"),
        (model(kind=1), "not 16-bit"),
        (model().replace(b"encoder/conv2/bias", b"encoder/conv2/mist"), "conv2/bias"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    (tmp_path / "vocabulary.txt").write_text("x\n" * WORDS)
    with pytest.raises(ModelUnreadable, match=why):
        ggml.convert(tmp_path, tmp_path / "out.bin")

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

from tests.builders import minilm
from tests.builders.errors import ModelUnreadable, ToolMissing


def weights(**tensors: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file; ``__`` in a name stands for a dot."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        place = [len(data), len(data) + len(raw)]
        header[name.replace("__", ".")] = {"dtype": kind, "shape": shape, "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = ("F32", [1, 2], struct.pack("<2f", 1.5, -2.0))


def test_tensors_get_llamas_names_and_their_own_bytes() -> None:
    file = weights(
        embeddings__word_embeddings__weight=ONE,
        embeddings__position_ids=("I64", [1, 2], bytes(16)),
        encoder__layer__3__attention__output__dense__bias=("F32", [1], struct.pack("<f", 7.0)),
        pooler__dense__weight=ONE,
    )
    found = [(name, shape, bytes(data)) for name, shape, data in minilm._tensors(file)]
    assert found == [
        ("token_embd.weight", [1, 2], ONE[2]),
        ("blk.3.attn_output.bias", [1], struct.pack("<f", 7.0)),
    ]


def test_other_types_are_not_read() -> None:
    with pytest.raises(ModelUnreadable, match="F16"):
        list(minilm._tensors(weights(embeddings__word_embeddings__weight=("F16", [1], b"xx"))))


def test_an_unknown_layer_is_told() -> None:
    with pytest.raises(KeyError, match="decoder"):
        list(minilm._tensors(weights(decoder__weight=ONE)))


def test_without_gguf_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ToolMissing, match="pip install gguf"):
        minilm._write(tmp_path / "x.gguf", {}, [], b"")

"""The heads of GGUF files, whole, damaged and of an ill will."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from deploy.engines import gguf
from tests.unit.deploy.engines import files
from workers.engines.llamacpp import server


def test_a_real_one() -> None:
    head = gguf.read(server.default_model())
    assert head.architecture == "llama"
    assert (head.own("block_count"), head.own("context_length")) == (30, 8192)
    assert head.own("embedding_length") == 576
    assert "token_embd.weight" in head.tensors
    assert "tokenizer.ggml.tokens" not in head.values


def test_values_of_every_type(tmp_path: Path) -> None:
    values = {"a.text": "grün", "b": 7, "c": True, "d": 0.5, "e": [1, 2, 3], "f": ["x", "y"]}
    head = gguf.read(files.gguf(tmp_path / "m.gguf", values, ["one.weight", "two.weight"]))
    assert head.values == {"a.text": "grün", "b": 7, "c": True, "d": 0.5, "e": [1, 2, 3]}
    assert head.tensors == ("one.weight", "two.weight")
    assert (head.number("b"), head.number("a.text"), head.number("none")) == (7, 0, 0)
    assert (head.text("a.text"), head.text("b")) == ("grün", "")


def test_a_long_list_is_passed_over(tmp_path: Path) -> None:
    values = {"types": list(range(5000)), "behind": 1}
    assert gguf.read(files.gguf(tmp_path / "m.gguf", values)).values == {"behind": 1}


@pytest.mark.parametrize("cut", [6, 20, 30, 100])
def test_one_that_was_not_copied_whole(tmp_path: Path, cut: int) -> None:
    whole = files.gguf(tmp_path / "m.gguf", files.LLAMA, ["one.weight"])
    whole.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(gguf.Unreadable, match="was all of it copied"):
        gguf.read(whole)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"GGML" + bytes(64), "no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "of version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62), "damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff" + bytes(8), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.text("a") + b"\x63\0\0\0", "type 99"),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + files.text("a")
            + struct.pack("<IIQ", 9, 8, 2**60),
            "damaged",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.text("a") + struct.pack("<IIQ", 9, 9, 1),
            "damaged",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    with pytest.raises(gguf.Unreadable, match=why):
        gguf.read(path)


@pytest.mark.parametrize("texts", [True, False])
def test_a_file_with_holes_is_not_read_for_long(tmp_path: Path, texts: bool) -> None:
    """It says that it has 4 GB of texts, or that many tensors' names, and takes no room itself."""
    path, many, long = tmp_path / "m.gguf", 256, 2**24
    counts = (0, many) if texts else (many, 0)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, *counts))
        for number in range(many):
            if texts:
                file.write(files.text(f"k{number}") + struct.pack("<I", 8))
            file.write(struct.pack("<Q", long))
            file.seek(long, 1)
            if not texts:
                file.write(struct.pack("<IQIQ", 1, 8, 0, 0))
    with pytest.raises(gguf.Unreadable, match="damaged"):
        gguf.read(path)

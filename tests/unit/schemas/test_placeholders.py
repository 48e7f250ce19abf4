from __future__ import annotations

import pytest

from schemas.placeholders import fill, words


def test_words_in_braces_are_filled_in() -> None:
    values = {"port": "81", "file": "/models/{port}.gguf"}
    assert fill("--at={port}:{file}", values) == "--at=81:/models/{port}.gguf"
    assert words(["--at={port}", "{file}{port}", "x"]) == {"port", "file"}


def test_other_braces_stay() -> None:
    text = '{"a": {}, "b": {"c": 1}} {A} { port } {}'
    assert (fill(text, {}), words([text])) == (text, set())


def test_a_placeholder_without_a_value() -> None:
    with pytest.raises(KeyError):
        fill("{prot}", {"port": "1"})

"""Embeddings one by one: taken apart, and put together again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingress.cache import items
from ingress.cache.items import Item
from schemas.jobs import CodecError


def answer(*vectors: Any, tokens: int = 6) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": "m", "usage": usage}


def split(texts: list[Any], document: dict[str, Any]) -> list[Item] | None:
    taken = items.Split(texts, document)
    for _ in taken.pieces():
        pass
    return taken.found


def joined(found: list[Item]) -> bytes:
    return b"".join(items.together(found))


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [2]]),
        ([], None),
        (["a", 1], None),
        (["a", [1]], None),
        ([{"content": "a"}], None),
        ({"content": "a"}, None),
        (None, None),
    ],
)
def test_the_texts_of_a_request(given: Any, texts: list[Any] | None) -> None:
    assert items.texts({"input": given}) == texts


def test_what_is_taken_apart_is_the_same_together() -> None:
    document = answer([0.1, 0.25], [-1.0, 2e-8], [3, 4])
    found = split(["a", "bb", "ccc"], document)
    assert found is not None
    assert orjson.loads(joined(found)) == document
    kept = [items.unpack(items.pack(item)) for item in found]
    assert kept == found


def test_items_are_told_by_their_index_and_not_by_their_place() -> None:
    document = answer([1.0], [2.0])
    document["data"].reverse()
    found = split(["a", "b"], document)
    assert found is not None
    assert [orjson.loads(item.entry)["embedding"] for item in found] == [[1.0], [2.0]]


def test_tokens_are_shared_by_length_and_none_is_lost() -> None:
    found = split(["a" * 8, "b" * 18, "c" * 8], answer("x", "y", "z", tokens=7))
    assert found is not None
    tokens = [item.tokens for item in found]
    assert sum(tokens) == 7
    assert tokens[1] == max(tokens)


def test_one_alone_has_all_its_tokens() -> None:
    found = split(["a"], answer("x", tokens=5))
    assert found is not None
    assert [item.tokens for item in found] == [5]


@pytest.mark.parametrize(
    "document",
    [
        answer([1.0]),
        answer([1.0], [2.0], [3.0]),
        answer([1.0], []),
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0}, {"index": 1}]},
        {"data": 5},
        {"data": [1, 2]},
        {},
    ],
)
def test_what_has_not_one_vector_for_each_text_is_not_taken_apart(document: Any) -> None:
    assert split(["a", "b"], document) is None


@pytest.mark.parametrize(
    "data", [b"", b"[]\n{}", b"[-1,{}]\n{}", b"[1,[]]\n{}", b"[1,{}]\n", b'[1,{}]\n{"a":1']
)
def test_what_is_no_item_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        items.unpack(data)


def test_an_answer_without_a_usage_counts_none() -> None:
    document = answer([1.0])
    del document["usage"]
    found = split(["a"], document)
    assert found is not None
    assert orjson.loads(joined(found))["usage"]["prompt_tokens"] == 0

"""llama-server's own form of embeddings."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import embeddings
from schemas.api.base import NO_ANSWER

PLAIN = {"model": "m", "input": ["a"]}


@pytest.mark.parametrize(
    ("asked", "put"),
    [
        ({"model": "m", "content": ["a"]}, PLAIN),
        ({**PLAIN, "content": None}, PLAIN),
        ({**PLAIN, "encoding_format": "base64"}, PLAIN),
        ({"content": [1, 2], "embd_normalize": -1}, {"input": [1, 2], "embd_normalize": -1}),
    ],
)
def test_it_is_put_as_ours(asked: dict[str, Any], put: dict[str, Any]) -> None:
    embeddings.REQUEST.check({**asked})
    assert embeddings.from_own(asked) == put


def test_one_that_is_ours_already_stays() -> None:
    assert embeddings.from_own(PLAIN) is PLAIN


def test_the_answer_is_a_bare_list() -> None:
    rows = [{"index": 0, "embedding": [0.6, 0.8]}, {"index": 1, "embedding": [1.0, 0.0]}]
    assert embeddings.as_own({"data": rows, "usage": {}}) == [
        {"index": 0, "embedding": [[0.6, 0.8]]},
        {"index": 1, "embedding": [[1.0, 0.0]]},
    ]


@pytest.mark.parametrize("answer", [{}, {"data": [{"index": 0}]}, {"data": 5}, []])
def test_what_is_no_answer(answer: Any) -> None:
    with pytest.raises(NO_ANSWER):
        embeddings.as_own(answer)

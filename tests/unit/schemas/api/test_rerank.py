"""TEI's form of a rerank."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import rerank
from schemas.errors import InvalidRequest

ASKED = {"model": "m", "query": "q", "texts": ["a", "b"], "raw_scores": False, "top_n": 2}
ANSWER = {
    "results": [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}],
    "usage": {},
}


def test_it_is_put_as_ours() -> None:
    assert not rerank.REQUEST.check({**ASKED})
    assert rerank.is_tei(ASKED)
    put = rerank.from_tei(ASKED)
    assert put == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}
    assert not rerank.is_tei(put)


def test_the_answer_is_a_bare_list_with_the_best_first() -> None:
    best, other = {"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}
    assert rerank.as_tei(ASKED, ANSWER) == [best, other]
    shown = rerank.as_tei({**ASKED, "return_text": True}, ANSWER)
    assert shown == [{**best, "text": "b"}, {**other, "text": "a"}]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"query": "q"}, "documents"),
        ({"query": "q", "texts": []}, "texts"),
        ({"query": "q", "texts": [{"text": "a"}]}, "texts[0]"),
        ({"query": "q", "texts": ["a"], "documents": ["a"]}, "texts"),
    ],
)
def test_a_refusal_says_where(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rerank.REQUEST.check(request_)
    assert refused.value.param == param

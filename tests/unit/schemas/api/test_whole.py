from __future__ import annotations

from typing import Any

import pytest

from schemas.api import endpoints

GOOD: dict[str, dict[str, Any]] = {
    "chat": {"choices": [{"message": {"content": None}}]},
    "completions": {"choices": [{"text": ""}]},
    "embeddings": {"data": [{"embedding": [0.5]}, {"embedding": "AAAAPw=="}]},
    "responses": {"output": []},
    "input_tokens": {"input_tokens": 0},
    "messages": {"content": []},
    "count_tokens": {"input_tokens": 3},
    "chat_tokens": {"input_tokens": 3},
    "rerank": {"results": [{"index": 0, "relevance_score": 1}]},
    "score": {"data": [{"index": 0, "score": 0.5}]},
    "classify": {"data": [{"index": 0, "label": None, "probs": [0.5, 0.5]}]},
    "pooling": {"data": [{"index": 0, "data": [[0.5], [0.25]]}, {"index": 1, "data": "AAAAPw=="}]},
    "moderations": {"results": [{"flagged": False}]},
    "transcriptions": {"text": ""},
    "translations": {"text": "Hi."},
    "images": {"data": [{"b64_json": "aGk="}]},
    "tokenize": {"tokens": []},
    "detokenize": {"content": ""},
    "apply_template": {"prompt": ""},
    "own_completion": {"content": "a"},
    "infill": {"content": "a"},
    "edits": {"data": [{"url": "http://x/"}]},
}
LISTS = ("choices", "data", "results")


@pytest.mark.parametrize("endpoint", endpoints.ENDPOINTS, ids=lambda each: each.word)
def test_only_an_answer_of_its_own_is_one(endpoint: endpoints.Endpoint) -> None:
    if endpoint.holds is None:
        assert endpoint.word == "speech"
        return
    good = GOOD[endpoint.word]
    assert not endpoint.holds.missing(good)
    [(field, value)] = good.items()
    names = {field, endpoint.holds.other}
    others = [other for other in GOOD.values() if names.isdisjoint(other)]
    if field in LISTS:
        others += [{field: []}, {field: [None]}, {field: [{}]}, {field: [*value, {}]}]
    for other in (*others, {}, {field: None}, {field: {}}):
        assert endpoint.holds.missing(other)


@pytest.mark.parametrize(
    ("word", "document", "missing"),
    [
        ("chat", {"data": []}, "'choices'"),
        ("chat", GOOD["completions"], "'message' in its 'choices'"),
        ("chat", {"choices": [{"message": "x"}]}, "'message' in its 'choices'"),
        ("transcriptions", {"text": 5}, "'text'"),
        ("completions", GOOD["chat"], "'text' in its 'choices'"),
        ("embeddings", GOOD["images"], "'embedding' in its 'data'"),
        ("images", GOOD["embeddings"], "'b64_json' in its 'data'"),
        ("rerank", GOOD["moderations"], "'index' in its 'results'"),
    ],
)
def test_what_is_missing_is_named(word: str, document: dict[str, Any], missing: str) -> None:
    holds = endpoints.BY_WORD[word].holds
    assert holds is not None
    assert holds.missing(document) == missing

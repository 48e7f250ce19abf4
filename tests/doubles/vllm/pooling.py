"""What a vLLM with a model for scores, classes or vectors answers: by its protocol in the source of
0.32.0, not recorded."""

from __future__ import annotations

import secrets
from typing import Any

from tests.doubles.base import words_of
from tests.doubles.vllm.faults import Refused

_PAIRS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)
LABELS = ("bad", "good")


def scores(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """A text is worth the share of the words of the other that it has."""
    pair = next((each for each in _PAIRS if all(name in asked for name in each)), None)
    if pair is None:
        raise _missing("ScoreTextRequest.text_1")
    left, right = ([asked[n]] if isinstance(asked[n], str) else asked[n] for n in pair)
    if len(left) > 1 and len(left) != len(right):
        raise Refused("Input lengths must be either 1:1, 1:N or N:N")
    left = left * len(right) if len(left) == 1 else left
    found = [
        {"index": index, "object": "score", "score": _shared(one, other)}
        for index, (one, other) in enumerate(zip(left, right, strict=True))
    ]
    return _listed("embd", model, found, [*left, *right])


def _shared(one: str, other: str) -> float:
    words = set(one.split())
    return len(words & set(other.split())) / max(1, len(words))


def classes(asked: dict[str, Any], model: str) -> dict[str, Any]:
    texts = _texts(asked, "Classification")
    found = [
        {"index": index, "label": LABELS["good" in text], "probs": probs, "num_classes": 2}
        for index, text in enumerate(texts)
        for probs in ([0.25, 0.75] if "good" in text else [0.75, 0.25],)
    ]
    return _listed("classify", model, found, texts)


def pooled(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """The numbers of each token."""
    if asked.get("dimensions") is not None:
        raise Refused("dimensions is currently not supported")
    texts = _texts(asked, "Pooling")
    plain = asked.get("encoding_format", "float") == "float"
    found = [
        {"index": index, "object": "pooling", "data": _numbers(text) if plain else "AAAAPw=="}
        for index, text in enumerate(texts)
    ]
    return _listed("pool", model, found, texts)


def _numbers(text: str) -> list[list[float]]:
    return [[0.5, 0.25] for _ in text.split()]


def _texts(asked: dict[str, Any], name: str) -> list[str]:
    if "messages" in asked:
        return [" ".join(word for each in asked["messages"] for word in words_of(each["content"]))]
    given = asked.get("input")
    if given is None:
        raise _missing(f"{name}CompletionRequest.input")
    return list(map(str, given if isinstance(given, list) else [given]))


def _missing(place: str) -> Refused:
    """pydantic's words for a union of requests of which none fits."""
    error = {"type": "missing", "loc": f"body.{place}", "msg": "Field required", "input": {}}
    return Refused(f"1 validation error:\n  {error}", "Bad Request", f"body.{place}")


def _listed(
    start: str, model: str, found: list[dict[str, Any]], texts: list[str]
) -> dict[str, Any]:
    count = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
    ident, now = f"{start}-{secrets.token_hex(8)}", 1_790_000_000
    about = {"id": ident, "object": "list", "created": now, "model": model}
    return {**about, "data": found, "usage": {**usage, "prompt_tokens_details": None}}

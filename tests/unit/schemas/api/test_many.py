"""A request may have many entries, and then it is refused before each of them is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from schemas.api import completions, embeddings, moderations, rerank, tokens
from schemas.api.chat import request as chat
from schemas.api.messages import request as messages
from schemas.api.responses import request as responses
from schemas.api.shape import MOST_ENTRIES, Shape
from schemas.errors import InvalidRequest

MANY = 500_000
ASK = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT: dict[str, Any] = {"messages": [ASK]}
CASES: list[tuple[Shape, Callable[[], dict[str, Any]], str]] = [
    (
        chat.REQUEST,
        lambda: {**CHAT, "logit_bias": {str(at): 1 for at in range(MANY)}},
        "logit_bias",
    ),
    (chat.REQUEST, lambda: {**CHAT, "logit_bias": [[1, 1]] * MANY}, "logit_bias"),
    (chat.REQUEST, lambda: {**CHAT, "stop": ["x"] * MANY}, "stop"),
    (chat.REQUEST, lambda: {**CHAT, "tools": [{"type": "x"}] * MANY}, "tools"),
    (chat.REQUEST, lambda: {**CHAT, "metadata": {str(at): "" for at in range(MANY)}}, "metadata"),
    (chat.REQUEST, lambda: {"messages": [ASK] * MANY}, "messages"),
    (chat.REQUEST, lambda: {"messages": [{"role": "user", "content": [PART] * MANY}]}, "messages"),
    (
        chat.REQUEST,
        lambda: {"messages": [{"role": "user", "content": [PART] * 5000}] * 90},
        "messages",
    ),
    (
        chat.REQUEST,
        lambda: {"messages": [{"role": "assistant", "tool_calls": [CALL] * 90_000}]},
        "messages",
    ),
    (responses.REQUEST, lambda: {"input": [ASK] * MANY, "include": []}, "input"),
    (responses.REQUEST, lambda: {"input": "x", "include": ["x"] * MANY}, "include"),
    (
        messages.REQUEST,
        lambda: {"model": "m", "max_tokens": 1, "messages": [ASK] * MANY},
        "messages",
    ),
    (completions.REQUEST, lambda: {"prompt": ["x"] * MANY}, "prompt"),
    (completions.REQUEST, lambda: {"prompt": [5] * (2**20 + 1)}, "prompt"),
    (embeddings.REQUEST, lambda: {"input": ["x"] * MANY}, "input"),
    (moderations.REQUEST, lambda: {"input": ["x"] * MANY}, "input"),
    (rerank.REQUEST, lambda: {"query": "x", "documents": ["x"] * MANY}, "documents"),
    (tokens.DETOKENIZE, lambda: {"tokens": [5] * (2**20 + 1)}, "tokens"),
]
"""Made by the test alone: they are large, and each process that runs tests collects this one."""


@pytest.mark.parametrize("number", range(len(CASES)))
def test_many_entries_are_refused_by_their_field(number: int) -> None:
    shape, request, param = CASES[number]
    with pytest.raises(InvalidRequest) as found:
        shape.read(orjson.dumps(request()))
    assert found.value.param == param


def test_what_is_asked_for_in_earnest_passes() -> None:
    body = orjson.dumps({**CHAT, "logit_bias": {str(at): 1 for at in range(MOST_ENTRIES)}})
    assert chat.REQUEST.read(body)[1] is body
    ids = orjson.dumps({"prompt": list(range(200_000))})
    assert completions.REQUEST.read(ids)[1] is ids

"""Which requests may have kept answers, and what clients say of them."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.cache.asked import ANY, Wish, repeats, wish
from schemas.api import endpoints
from schemas.api.endpoints import Endpoint

FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        (endpoints.CHAT, {"temperature": 0}),
        (endpoints.CHAT, {"temperature": 0.0, "stream": True, "n": 2}),
        (endpoints.CHAT, {"temperature": 1, "seed": 7}),
        (endpoints.CHAT, {"seed": 0, "tools": [FUNCTION]}),
        (endpoints.COMPLETIONS, {"seed": 7}),
        (endpoints.RESPONSES, {"temperature": 0, "tools": [{"type": "function", "name": "f"}]}),
        (endpoints.MESSAGES, {"temperature": 0, "tools": [{"name": "f", "input_schema": {}}]}),
        (endpoints.OWN_COMPLETION, {"seed": 7}),
        (endpoints.EMBEDDINGS, {}),
        (endpoints.RERANK, {}),
        (endpoints.MODERATIONS, {}),
        (endpoints.SCORE, {}),
        (endpoints.TRANSCRIPTIONS, {}),
        (endpoints.TRANSLATIONS, {"temperature": 0}),
        (endpoints.IMAGES, {"seed": 7}),
        (endpoints.EDITS, {"seed": 7}),
    ],
)
def test_what_is_settled_by_its_request(endpoint: Endpoint, asked: dict[str, Any]) -> None:
    assert repeats(endpoint, asked)


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        (endpoints.CHAT, {}),
        (endpoints.CHAT, {"temperature": 0.01}),
        (endpoints.CHAT, {"seed": -1}),
        (endpoints.CHAT, {"seed": 2**32 - 1}),
        (endpoints.CHAT, {"seed": 2**64 - 1}),
        (endpoints.CHAT, {"seed": 7.0}),
        (endpoints.CHAT, {"temperature": 0, "web_search_options": {}}),
        (endpoints.CHAT, {"temperature": 0, "tools": [FUNCTION, {"type": "mcp"}]}),
        (endpoints.RESPONSES, {"temperature": 0, "tools": [{"type": "web_search"}]}),
        (endpoints.RESPONSES, {"temperature": 0, "previous_response_id": "r"}),
        (endpoints.RESPONSES, {"temperature": 0, "background": True}),
        (endpoints.MESSAGES, {"temperature": 0, "tools": [{"type": "bash_20250124"}]}),
        (endpoints.TRANSCRIPTIONS, {"temperature": 0.2}),
        (endpoints.IMAGES, {}),
        (endpoints.IMAGES, {"seed": -1}),
        (endpoints.SPEECH, {"seed": 7}),
        (endpoints.TOKENIZE, {"temperature": 0}),
    ],
)
def test_what_may_get_another_answer(endpoint: Endpoint, asked: dict[str, Any]) -> None:
    assert not repeats(endpoint, asked)


@pytest.mark.parametrize(
    ("control", "found"),
    [
        ("", ANY),
        ("no-cache", Wish(reads=False)),
        ("No-Store", Wish(reads=False, writes=False)),
        ("max-age=0", Wish(reads=False, age=0)),
        ('max-age="60" , no-transform', Wish(age=60)),
        ("max-age=-1, max-age=x", ANY),
        ("only-if-cached", Wish(only=True)),
        ("private, max-stale", ANY),
    ],
)
def test_what_cache_control_says(control: str, found: Wish) -> None:
    assert wish(control) == found

from __future__ import annotations

from typing import Any

import pytest

from schemas.api.endpoints import BY_WORD
from schemas.api.reasoning import UNSAID, Reasoning

OFF = Reasoning(False)


@pytest.mark.parametrize(
    ("word", "request_", "wanted"),
    [
        ("chat", {}, UNSAID),
        ("chat", {"reasoning_effort": "low"}, Reasoning(True, "low")),
        ("chat", {"reasoning_effort": "minimal"}, Reasoning(False, "minimal")),
        ("chat", {"reasoning_effort": 5}, UNSAID),
        ("chat", {"think": False, "reasoning_effort": "high"}, OFF),
        ("chat", {"think": "high"}, Reasoning(True, "high")),
        ("responses", {"reasoning": {"effort": "none"}}, Reasoning(False, "none")),
        ("responses", {"reasoning": {"summary": "auto"}}, UNSAID),
        ("responses", {"reasoning": None}, UNSAID),
        ("messages", {"thinking": {"type": "disabled"}}, OFF),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 9}}, Reasoning(True, "", 9)),
        ("messages", {"thinking": {"type": "adaptive"}}, UNSAID),
        ("messages", {"output_config": {"effort": "max"}}, Reasoning(None, "max")),
        ("embeddings", {"reasoning_effort": "low"}, UNSAID),
    ],
)
def test_each_api_says_how_much_to_think(
    word: str, request_: dict[str, Any], wanted: Reasoning
) -> None:
    assert BY_WORD[word].api.reasoning(request_) == wanted


@pytest.mark.parametrize(
    ("effort", "degree"),
    [("", ""), ("none", "low"), ("minimal", "low"), ("medium", "medium"), ("ultra", "high")],
)
def test_an_effort_becomes_a_degree_that_is_known(effort: str, degree: str) -> None:
    assert Reasoning(True, effort).degree("low", "medium", "high") == degree

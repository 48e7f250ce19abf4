"""Answers that overtake each other."""

from __future__ import annotations

from deploy.console.pages.newest import Newest


def test_only_the_last_question_counts() -> None:
    questions = Newest()
    first = questions.ask()
    assert first()
    second = questions.ask()
    assert (first(), second()) == (False, True)

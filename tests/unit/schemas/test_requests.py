"""What ingresses tell each other of requests."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import requests
from schemas.jobs import CodecError
from schemas.requests import MOST_ROWS, Question, Told

NAMES = st.from_regex(r"in-[0-9a-f]{8}", fullmatch=True)
AFTER = st.dictionaries(NAMES, st.integers(0, 2**53 - 1), max_size=5)


@given(AFTER, st.text(max_size=40), st.integers(1, MOST_ROWS), st.text(max_size=40), NAMES)
def test_a_question_is_read_as_it_was_asked(
    after: dict[str, int], account: str, most: int, cancel: str, ingress: str
) -> None:
    question = Question(account, after, most, cancel, ingress)
    assert requests.question(question.pack()) == question


@given(AFTER)
def test_a_cursor_is_read_as_it_was_given(after: dict[str, int]) -> None:
    assert requests.read_cursor(requests.cursor(after)) == after


def test_an_answer_is_read_as_it_was_told() -> None:
    told = Told("in-1", 7, ({"id": "a"},), ({"id": "b"}, {"id": "c"}), True)
    assert requests.told(told.pack()) == told


@pytest.mark.parametrize("word", ["", "x", "????", "e30x", "W10", "eyJhIjotMX0", "eyJhLmIiOjF9"])
def test_what_is_no_cursor_is_refused(word: str) -> None:
    with pytest.raises(CodecError):
        requests.read_cursor(word)


GOOD: dict[str, Any] = {"account": "", "after": {}, "most": 1, "cancel": ""}


@pytest.mark.parametrize(
    "changed",
    [
        {"account": 1},
        {"account": "a" * 300},
        {"after": []},
        {"after": {"a.b": 1}},
        {"after": {"a": True}},
        {"after": {f"in-{number}": 1 for number in range(300)}},
        {"most": MOST_ROWS + 1},
        {"most": True},
        {"cancel": None},
        {"ingress": 1},
    ],
)
def test_a_question_out_of_bounds_is_refused(changed: dict[str, Any]) -> None:
    requests.question(orjson.dumps(GOOD))
    with pytest.raises(CodecError):
        requests.question(orjson.dumps({**GOOD, **changed}))


@given(st.binary(max_size=60))
def test_noise_is_refused(data: bytes) -> None:
    for read in (requests.question, requests.told):
        with pytest.raises(CodecError):
            read(data)

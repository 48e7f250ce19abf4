"""Marks: what one prompt has in common with another from its beginning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.models import marks

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WORDS = st.text(max_size=40)
LONG = st.builds(lambda text, many: text * many, WORDS, st.integers(0, 150))
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.one_of(LONG, st.none(), st.just([{"type": "text", "text": "x"}])),
        },
        optional={"name": WORDS},
    ),
    max_size=6,
)


def of(path: str = CHAT, model: str = "m", **asked: Any) -> list[int]:
    return marks.of(path, asked, model)


def shared(one: list[int], other: list[int]) -> int:
    """How many bytes they have in common, as far as marks tell."""
    both = {*one} & {*other}
    return max(map(marks.length, both), default=0)


@given(MESSAGES, MESSAGES)
def test_what_goes_on_has_all_marks_of_its_beginning(begun: list[Any], more: list[Any]) -> None:
    before, after = of(messages=begun), of(messages=begun + more)
    assert after[: len(before)] == before
    assert after == sorted(set(after))


@given(LONG, LONG)
def test_a_text_that_goes_on_has_all_marks_of_its_beginning(begun: str, more: str) -> None:
    before, after = of(TEXT, prompt=begun), of(TEXT, prompt=begun + more)
    assert after[: len(before)] == before


@given(MESSAGES, MESSAGES, MESSAGES)
def test_a_continuation_has_as_much_in_common_as_its_beginning(
    other: list[Any], begun: list[Any], more: list[Any]
) -> None:
    kept = of(messages=begun + other)
    before = shared(kept, of(messages=begun))
    assert shared(kept, of(messages=begun + more)) >= before


def test_marks_say_where_they_stand() -> None:
    text = "a" * 10_000
    found = list(map(marks.length, of(TEXT, prompt=text)))
    assert found == [2048, 4096, 6144, 8192]
    (end,) = of(messages=[{"role": "user", "content": "hi"}])
    assert marks.length(end) == len("\0user\0hi")


def test_a_very_long_text_has_few() -> None:
    assert len(of(TEXT, prompt="a" * 4_000_000)) < 120


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"tools": [{"type": "function"}]},
        {"lora": [{"id": 1}]},
        {"system": "Be brief."},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_what_has_another_beginning_has_none_in_common(other: dict[str, Any]) -> None:
    said = [{"role": "user", "content": "x" * 5000}]
    assert shared(of(messages=said), of(messages=said, **other)) == 0


def test_roles_count() -> None:
    first, second = ([{"role": role, "content": "x"}] for role in ("user", "system"))
    assert shared(of(messages=first), of(messages=second)) == 0


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/embeddings", {"input": "x" * 5000}),
        (CHAT, {"messages": [{"role": "user", "content": "x"}], "cache_prompt": False}),
        (CHAT, {"messages": "x"}),
        (TEXT, {"prompt": 1}),
        ("/v1/responses", {"input": None}),
    ],
)
def test_what_nobody_keeps_has_none(path: str, asked: dict[str, Any]) -> None:
    assert of(path, **asked) == []


def test_responses_go_on_as_chats_do() -> None:
    first = [{"role": "user", "content": "x" * 3000}]
    alone = of("/v1/responses", input="x" * 3000)
    before, after = (of("/v1/responses", input=[*first, *more]) for more in ([], first))
    assert alone == before == after[: len(before)]
    assert of("/v1/responses", input=first, instructions="y")[0] != before[0]

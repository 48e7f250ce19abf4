"""Patterns as the grammar takes them: never wider than the pattern itself, as JSON is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from itertools import product

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema_rs import FancyRegexOptions

from ingress.answer.schema_validator import compiled
from workers.engines.llamacpp.schema.parts import Unsaid
from workers.engines.llamacpp.schema.patterns import rewrite


def takes(said: str, text: str) -> bool:
    """Whether the grammar lets this text through, inside of its quotes."""
    return re.compile(said).fullmatch(orjson.dumps(text).decode()[1:-1]) is not None


def fits(pattern: str, text: str) -> bool:
    return compiled({"pattern": pattern}, FancyRegexOptions()).is_valid(text)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^\d{3}$", "^([0-9]{3,3})$"),
        (r"^[a-z]+$", "^([a-z]+)$"),
        (r"^(?<year>\d\d)\/x?$", r"^(([0-9][0-9])[\x2F][x]?)$"),
        (r"^\w\-$", r"^([0-9A-Z\x5Fa-z][\x2D])$"),
        ("^a|b$", None),
        (r"^\n\"$", r'^(([\\][n])([\\]["]))$'),
        ("(?i)^a1$", "^([Aa][1])$"),
        ("^(a|)$", "^(([a])?)$"),
        (r"^\ud83d\ude00$", r"^([\U0001F600])$"),
        ("^.{0,9999}$", None),
    ],
)
def test_what_can_be_said(pattern: str, said: str | None) -> None:
    found = rewrite(pattern)
    assert said in (None, found)


UNSAID = r"""^$ ^()$ ^a{3,2}$ ^[b-a]$ ^[]$ ^*$ ^( a) ^[a a{2}{3} ^.{2001}$ ^((a{50}){50})$ (?=a)b
^(a)\1$ a$b ^\p{Nonsense}$ \u{110000} ^(?=a$)ab ^(?!.*a)a"""


@pytest.mark.parametrize("pattern", UNSAID.split())
def test_what_cannot_be_said_or_would_make_the_server_hang(pattern: str) -> None:
    with pytest.raises(Unsaid):
        rewrite(pattern)


TEXTS = [
    *(
        "",
        "a",
        "b",
        "ab",
        "aab",
        "abc",
        "xabcx",
        "12",
        "a1",
        "_",
        "\u00e9",
        "\\",
        '"',
        "\n",
        "ab\n",
    ),
    *(
        "a.b",
        "aXb",
        "\U0001f600",
        "ABC",
        "Ab",
        "-",
        "123-4567",
        "x@y.de",
        "/",
        " ",
        "\t",
        "https://a",
    ),
]
PATTERNS = r"""abc ^a b$ \d ^\w+$ ^[\w.-]+$ ^\s$ ^a.b$ ^(?:ab)+$ ^[^a]$ ^a|b$ ^\d{3}-\d{4}$ [A-Z]{2}
^https?:\/\/ ^[^]$ ^[\s\S]*$ ^(a?)*$ ^[\w.+-]+@[\w-]+\.[\w.-]+$ ^\p{L}+$ ^\D$ (^a$|^b$) a*? \\
^(a|b){1,2}$ ^\x61\u0062$ ^[a-]$ ^[\]a]$"""


@pytest.mark.parametrize("pattern", ["", *PATTERNS.split()])
def test_it_says_the_same(pattern: str) -> None:
    said = rewrite(pattern)
    for text in TEXTS:
        assert takes(said, text) == fits(pattern, text)


LOOKS = r"""^(?!0)\d+$ ^(?!admin$)[a-z]+$ ^(?!-)[a-z-]+$ ^(?!.*-$)[a-z-]{2,9}$ (?=a)a
^(?=.*\d$)[a-z\d]+$ ^(?!a|bc)\w{2,}$ ^[a-z](?!\d)\w$ ^(?!.*\s)\S+$ (?i)^(?!ab)[a-z]+$ ^(?=[a-z])\w+$
^(?!-)(?!.*-$)[a-z-]{2,9}$ ^(?:(?!0)\d+|x)$ ^(?!a*$)[ab]{2}$"""
PLACED = r"""^(?=.*\d)(?=.*[a-z])(?=.*[A-Z]).{3,}$ ^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{2,20}$
^(?=.{3,6}$)[a-b]+(-[a-b]+)*$
^(?!.*--)[a-z-]{1,30}$ ^(?!.*abc)[a-c]+$ ^((?=.*\d)(?=.*[a-z]).{2,8})$ ^(?=(?:.*\d){2})[a-z\d]{4}$
^(?!\s*$).+ ^(?=.*[A-Z])(?=.*\d) ^(?=.*ab$)[a-c]+$ ^(?=\d{2,3}$)\d+$ ^(?=a.{2,4}$)\w+$"""
TRIED = ["".join(each) for size in range(6) for each in product("abA1-", repeat=size)]


def judged(pattern: str) -> Iterator[tuple[bool, bool]]:
    """For each text, whether the grammar takes it, and whether it fits."""
    said, schema = re.compile(rewrite(pattern)), compiled({"pattern": pattern}, FancyRegexOptions())
    return ((said.fullmatch(text) is not None, schema.is_valid(text)) for text in TRIED)


@pytest.mark.parametrize("pattern", LOOKS.split())
def test_a_look_ahead_is_said_of_what_follows_it(pattern: str) -> None:
    assert all(taken == fitting for taken, fitting in judged(pattern))


@pytest.mark.parametrize("pattern", PLACED.split())
def test_what_may_stand_anywhere_is_said_of_some_places(pattern: str) -> None:
    """Not all that fits passes, but some does, and nothing that does not fit."""
    found = list(judged(pattern))
    assert all(fitting for taken, fitting in found if taken)
    assert any(taken for taken, _ in found)


@pytest.mark.parametrize("pattern", [r"^\bab$", "^(?<=x)ab$", "^(?:(?!x)a)b$", "^(?!.*(a*b)+)ab$"])
def test_what_cannot_be_said_of_no_letter_is_left_out(pattern: str) -> None:
    assert takes(rewrite(pattern), "ab"), "the ingress checks"


LETTERS = st.sampled_from(
    ["a", "b", ".", r"\d", "[a-c]", "[^b]", r"\w", r"\s", '"', r"\\", "\u00e9"]
)
PIECES = st.recursive(
    LETTERS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0}"])).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({'|'.join(each)})")
        | st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{''.join(each)})")
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(["", "^"]),
    PIECES,
    st.sampled_from(["", "$"]),
    st.text('ab1 "\\\u00e9', max_size=6),
)
def test_nothing_passes_that_does_not_fit(before: str, inner: str, after: str, text: str) -> None:
    pattern = before + inner + after
    try:
        said = rewrite(pattern)
    except Unsaid:
        assume(False)
    assert takes(said, text) == fits(pattern, text)


@given(st.text("ab()[]{}*+?|^$.\\d,3-", max_size=10))
def test_it_ends_whatever_comes(pattern: str) -> None:
    with contextlib.suppress(Unsaid):
        rewrite(pattern)


def test_lengths_hold_for_one_letter_repeated() -> None:
    assert rewrite("^[a-z]+$", 2, 5) == "^([a-z]{2,5})$"
    assert rewrite("^[a-z]{3,9}$", 2, 5) == "^([a-z]{3,5})$"
    assert rewrite("^[a-z]{6,9}$", 2, 5) == "^([a-z]{6,9})$", "the ingress checks"
    assert rewrite("^[a-z]+x$", 2, 5) == "^([a-z]+[x])$"

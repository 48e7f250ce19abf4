"""Tokens come back as they were made, and none that was cut or altered does."""

from __future__ import annotations

import string

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.nodes import token as tokens
from deploy.nodes.token import BadToken, Token

LETTERS = string.ascii_letters + string.digits + "-_"
words = st.text(min_size=1, max_size=40)
TOKENS = st.builds(
    Token,
    addresses=st.lists(
        st.builds(
            "{}://{}:{}".format,
            st.sampled_from(tokens.SCHEMES),
            st.sampled_from(["10.0.0.5", "[fd00::1]", "hub.example.org"]),
            st.integers(1, 65_535),
        ),
        min_size=1,
        max_size=8,
    ).map(tuple),
    fingerprint=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
    invite=words,
    secret=st.binary(min_size=32, max_size=32),
    role=st.sampled_from(["worker", "ingress", "fallback"]),
    name=words,
    expires=st.integers(0, 2**40),
)
ONE = Token(("tls://10.0.0.5:4222",), bytes(32), "i1", b"s" * 32, "worker", "box", 1_800_000_000)


@given(TOKENS)
def test_comes_back_as_it_was_made(made: Token) -> None:
    text = made.pack()
    assert tokens.unpack(text) == made
    assert tokens.unpack(f" {text[:20]}\n  {text[20:]}\r\n") == made


@given(TOKENS, st.data())
def test_a_changed_letter_is_told(made: Token, data: st.DataObject) -> None:
    text = made.pack()
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from([each for each in LETTERS if each != text[place]]))
    with pytest.raises(BadToken):
        tokens.unpack(text[:place] + letter + text[place + 1 :])


@given(TOKENS, st.data())
def test_a_cut_token_is_told(made: Token, data: st.DataObject) -> None:
    text = made.pack()
    with pytest.raises(BadToken):
        tokens.unpack(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(BadToken):
        tokens.unpack(text[data.draw(st.integers(1, len(text))) :])


@given(TOKENS, st.data())
def test_a_missing_or_added_letter_is_told(made: Token, data: st.DataObject) -> None:
    text = made.pack()
    place = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(BadToken):
        tokens.unpack(text[:place] + text[place + 1 :])
    with pytest.raises(BadToken):
        tokens.unpack(text[:place] + data.draw(st.sampled_from(LETTERS)) + text[place:])


@given(st.one_of(st.text(max_size=200), st.text(max_size=200).map(lambda text: "hrj1_" + text)))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    with pytest.raises(BadToken):
        tokens.unpack(text)


@given(st.recursive(st.none() | st.integers() | st.binary() | st.text(), st.lists, max_leaves=12))
def test_what_no_invite_says_is_told(content: object) -> None:
    raw = msgpack.packb(content) if not _huge(content) else b""
    with pytest.raises(BadToken):
        tokens.unpack(tokens.PREFIX + tokens._text(raw + tokens._sum(raw)))


def _huge(content: object) -> bool:
    """Numbers that msgpack cannot have."""
    if isinstance(content, list):
        return any(map(_huge, content))
    return isinstance(content, int) and not -(2**63) <= content < 2**64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("sk-headrace-abc", "no token"),
        ("hrj2_abcd", "another release"),
        (ONE.pack()[:-1], "cut or altered"),
        (ONE.pack() * 40, "too long"),
    ],
)
def test_the_message_says_what_to_do(text: str, said: str) -> None:
    with pytest.raises(BadToken, match=said) as fault:
        tokens.unpack(text)
    assert "\n" not in str(fault.value)


def test_it_does_not_show_its_secret() -> None:
    assert "ssss" not in repr(ONE)
    assert len(ONE.pack()) < 200

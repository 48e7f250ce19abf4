"""What must never have the name of another's answer, and what has it all the same."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.cache import key
from ingress.cache.key import Terms
from schemas import multipart
from schemas.multipart import Part

TERMS = Terms(
    "acme", "/v1/chat/completions", "m", "m", "", "local", "", "application/json", False, False
)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
ASKED: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello"}],
    "temperature": 0,
    "seed": 1,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    "grammar": 'root ::= "a"',
    "stream_options": {"include_usage": True},
    "user": "u",
}
OTHERS: list[dict[str, Any]] = [
    {"model": "M"},
    {"messages": [{"role": "user", "content": "hello "}]},
    {"messages": [{"role": "system", "content": "hello"}]},
    {"messages": [{"role": "user", "content": [PICTURE]}]},
    {"messages": [{"role": "user", "content": [{**PICTURE, "image_url": {"url": "AAAB"}}]}]},
    {"temperature": 0.0},
    {"temperature": None},
    {"seed": 2},
    {"seed": "1"},
    {"tools": []},
    {"tools": [{"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}]},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"a": 1}}}},
    {"response_format": {"type": "json_object"}},
    {"grammar": 'root ::= "b"'},
    {"stream_options": {"include_usage": False}},
    {"user": "v"},
    {"metadata": {"a": "b"}},
    {"n": 1},
    {"min_p": 0.1},
    {"nobody_knows_this": 1},
    {"nobody_knows_this": 1.5},
    {"nobody_knows_this": 18446744073709551617},
    {"nobody_knows_this": 18446744073709551618},
    {"nobody_knows_this": True},
    {"nobody_knows_this": "1"},
]

plain = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=4)
values = st.recursive(
    plain | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
requests = st.dictionaries(st.sampled_from(["a", "b", "seed", "tools"]), values)


def of(body: bytes, **terms: Any) -> str:
    return key.name(TERMS._replace(**terms), key.of_json(orjson.loads(body), body))


def test_no_two_of_these_share_an_answer() -> None:
    bodies = [json.dumps({**ASKED, **other}).encode() for other in ({}, *OTHERS)]
    assert len({of(body) for body in bodies}) == len(bodies)


@pytest.mark.parametrize("field", Terms._fields)
def test_no_term_is_passed_over(field: str) -> None:
    other = not getattr(TERMS, field) if field in ("stream", "lenient") else "another"
    body = json.dumps(ASKED).encode()
    assert of(body, **{field: other}) != of(body)


def test_terms_do_not_run_into_each_other() -> None:
    body = json.dumps(ASKED).encode()
    assert of(body, served="ab", named="c") != of(body, served="a", named="bc")


@given(requests, requests)
def test_requests_share_an_answer_only_if_they_say_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = json.dumps(one).encode(), json.dumps(other).encode()
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if not same:
        assert of(first) != of(second)


@given(requests, st.randoms())
def test_order_and_blanks_of_objects_do_not_matter(one: dict[str, Any], chance: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            pairs = [(name, shuffled(each)) for name, each in value.items()]
            chance.shuffle(pairs)
            return dict(pairs)
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    first = json.dumps(one).encode()
    if key.is_odd(first):
        return  # its bytes are its name
    other = json.dumps(shuffled(one), indent=1, separators=(" , ", " : ")).encode()
    assert of(first) == of(other) or key.is_odd(other)


def test_the_order_of_a_list_matters() -> None:
    assert of(b'{"a":[1,2]}') != of(b'{"a":[2,1]}')


FORM = [Part("file", b"RIFF1", "a.wav", "audio/wav"), Part("language", b"en")]


def form(parts: list[Part]) -> str:
    body, content_type = multipart.encode(parts)
    return key.name(TERMS, key.of_form(multipart.parse(body, content_type)))


def test_a_form_is_the_same_under_another_boundary() -> None:
    assert form(FORM) == form(FORM)


@pytest.mark.parametrize(
    "parts",
    [
        [Part("file", b"RIFF2", "a.wav", "audio/wav"), FORM[1]],
        [Part("file", b"RIFF1", "b.wav", "audio/wav"), FORM[1]],
        [Part("file", b"RIFF1", "a.wav", "audio/mpeg"), FORM[1]],
        [FORM[0], Part("language", b"de")],
        [FORM[0], Part("prompt", b"en")],
        [FORM[0]],
        [FORM[0], FORM[1], FORM[1]],
        FORM[::-1],
    ],
)
def test_no_other_form_shares_its_answer(parts: list[Part]) -> None:
    assert form(parts) != form(FORM)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 5000, 'é"\\' * 50_000, "x" * 300_000, [1, 2], list(range(100_000)), [-1] * 5000],
)
def test_a_long_text_has_the_name_that_it_has_at_once(text: str | list[int]) -> None:
    base, names = key.Name(TERMS, b"item"), list[str]()
    for _ in base.each([text, text], names):
        pass
    assert names == [base.of((key.plainly(text),))] * 2


ODD = b'{"a": 12345678901234567}'


@pytest.mark.parametrize("body", [ODD, ODD.replace(b" 1", b" \n\t   -1"), ODD.replace(b" ", b"")])
def test_a_long_number_is_seen_wherever_a_body_is_cut(body: bytes) -> None:
    for cut in range(len(body)):
        pieces = (0, cut), (cut, len(body))
        assert any(key.may_be_odd(body, start, stop) for start, stop in pieces)
    assert not key.may_be_odd(b'{"a": 123456789012345, "b": "x"}', 0, 32)
    assert not key.may_be_odd(b'{"a": "12345678901234567"}', 0, 26)

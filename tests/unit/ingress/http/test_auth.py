from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ingress.http.auth import Keys, Principal
from schemas.errors import Unauthorized
from schemas.settings import Key

ONE, OTHER = "sk-one-0123456789abcdef", "sk-other-0123456789abcd"
KEYS = Keys(
    [
        Key.model_validate({"name": "one", "account": "a", "secret": ONE}),
        Key.model_validate({"name": "other", "secret": OTHER}),
    ]
)


def who(**headers: str) -> Principal:
    raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return KEYS.who(Request({"type": "http", "headers": raw}))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_bearer_key_is_known_however_it_is_spelled(scheme: str) -> None:
    assert who(authorization=f"{scheme} {ONE}") == Principal("a", "one")


@pytest.mark.parametrize("value", [f"  {OTHER}", f"{OTHER} ", OTHER])
def test_a_key_may_come_as_x_api_key(value: str) -> None:
    assert who(x_api_key=value) == Principal("default", "other")
    assert who(x_api_key=value, authorization="Basic xyz") == Principal("default", "other")


def test_the_bearer_comes_first() -> None:
    assert who(authorization=f"Bearer   {ONE} ", x_api_key=OTHER).key == "one"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer   "},
        {"authorization": ONE},
        {"authorization": f"Basic {ONE}"},
        {"x_api_key": ""},
    ],
)
def test_without_a_key_the_answer_says_how_to_send_one(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer"):
        who(**headers)


@pytest.mark.parametrize(
    "secret", ["sk-wrong-0123456789abcdef", ONE[:-1], ONE + "x", ONE.upper(), "ä" * 20, "\xff"]
)
def test_a_wrong_key_is_not_known(secret: str) -> None:
    with pytest.raises(Unauthorized, match="not known") as caught:
        who(authorization=f"Bearer {secret}")
    assert secret not in caught.value.message


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_breaks_it(value: str) -> None:
    with pytest.raises(Unauthorized):
        who(authorization=value, x_api_key=value)


def test_the_secret_itself_is_not_kept() -> None:
    assert ONE not in repr(vars(KEYS))

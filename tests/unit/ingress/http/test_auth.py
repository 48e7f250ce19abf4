from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ingress.http.auth import Keys, Principal
from ingress.http.auth import principal as principal_of
from ingress.keys.book import KeyBook, Pages
from ingress.keys.records import AccountRecord, pack
from schemas import subjects
from schemas.errors import InsufficientScope, KeyExpired, Unauthorized
from schemas.keys import KeyPolicy, Limits
from schemas.settings import Key

ONE, OTHER = "sk-one-0123456789abcdef", "sk-other-0123456789abcd"
KEYS = Keys(
    [
        Key.model_validate({"name": "one", "account": "a", "secret": ONE}),
        Key.model_validate({"name": "other", "secret": OTHER}),
    ]
)


A, DEFAULT = KeyPolicy(account="a"), KeyPolicy()


def request(**headers: str) -> Request:
    raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return Request({"type": "http", "headers": raw})


def who(**headers: str) -> Principal:
    return KEYS.who(request(**headers))


def principal(**said: Any) -> Principal:
    """As one key of the configuration gives it."""
    made = Keys([Key.model_validate({"name": "k", "secret": ONE, **said})])
    return made.who(request(x_api_key=ONE))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_bearer_key_is_known_however_it_is_spelled(scheme: str) -> None:
    assert who(authorization=f"{scheme} {ONE}") == Principal("one", A)


@pytest.mark.parametrize("value", [f"  {OTHER}", f"{OTHER} ", OTHER])
def test_a_key_may_come_as_x_api_key(value: str) -> None:
    assert who(x_api_key=value) == Principal("other", DEFAULT)
    assert who(x_api_key=value, authorization="Basic xyz") == Principal("other", DEFAULT)


def test_a_key_may_stand_without_a_word_before_it() -> None:
    assert who(authorization=ONE) == Principal("one", A)
    assert who(authorization=ONE, x_api_key=OTHER).key == "other"


def test_the_bearer_comes_first() -> None:
    assert who(authorization=f"Bearer   {ONE} ", x_api_key=OTHER).key == "one"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer   "},
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


def test_an_expired_key_is_told_so_to_who_has_it() -> None:
    assert principal(expires="2100-01-01T00:00:00Z").policy.expires == 4_102_444_800
    with pytest.raises(KeyExpired):
        principal(expires="2020-01-01T00:00:00+01:00")


@pytest.mark.parametrize(
    ("scopes", "asked", "may"),
    [
        (["inference"], "/v1/embeddings", True),
        (["inference:/v1/embeddings"], "/v1/embeddings", True),
        (["inference:/v1/embeddings"], "/v1/chat/completions", False),
        (["models:read"], "/v1/embeddings", False),
        (["admin"], "/v1/embeddings", False),
    ],
)
def test_endpoints_are_scopes(scopes: list[str], asked: str, may: bool) -> None:
    one = principal(scopes=scopes)
    if may:
        one.need_any_endpoint()
        one.need_endpoint(asked)
    else:
        with pytest.raises(InsufficientScope, match="'inference'"):
            one.need_endpoint(asked)


def test_a_key_of_no_endpoint_is_refused_before_its_body() -> None:
    principal(scopes=["inference:/v1/embeddings"]).need_any_endpoint()
    with pytest.raises(InsufficientScope):
        principal(scopes=["models:read"]).need_any_endpoint()


def test_the_record_of_an_account_reaches_keys_of_the_configuration() -> None:
    keys = Keys([Key.model_validate({"name": "k", "account": "lab", "secret": ONE})])
    pages = Pages(principal_of)
    keys.book = cast("KeyBook", pages)  # which has the same accounts
    record = AccountRecord(account="lab", limits=Limits(requests=3), weight=2.0)
    pages.read(subjects.account_record("lab"), pack(record))
    keys.renew()
    found = keys.who(request(x_api_key=ONE))
    assert (found.account_limits, found.account_weight) == (Limits(requests=3), 2.0)


def test_an_admin_may_read_too() -> None:
    one = principal(scopes=[], admin=True)
    for scope in ("models:read", "usage:read", "admin"):
        one.need(scope)
    with pytest.raises(InsufficientScope):
        one.need("inference")
    with pytest.raises(InsufficientScope):
        principal().need("admin")

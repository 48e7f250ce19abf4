from __future__ import annotations

import time
from typing import Any

import pytest

from ingress.keys import changes
from ingress.keys.records import AccountRecord, checked, merged
from schemas.errors import InvalidRequest, KeyExists
from schemas.keys import KeyPolicy, Limits

SECRET = "sk-hunter2-0123456789"


@pytest.mark.parametrize(
    ("said", "seconds"), [("0", 0), ("90", 90), ("12h", 43_200), ("30d", 2_592_000), ("x", None)]
)
def test_spans(said: str, seconds: float | None) -> None:
    assert changes.span(said) == seconds


@pytest.mark.parametrize("said", ["soon", True, None, [1], {}])
def test_a_grace_that_is_none_is_refused(said: object) -> None:
    with pytest.raises(InvalidRequest, match="grace"):
        changes.grace_of(said)


def test_an_expiry_is_a_span_a_moment_or_never() -> None:
    soon = changes.check("a", {"expires": "1h"}, "").policy.expires
    assert soon is not None
    assert soon == pytest.approx(time.time() + 3600, abs=60)
    assert changes.check("a", {"expires": "2100-01-01T00:00:00Z"}, "").policy.expires
    assert changes.check("a", {"expires": "never"}, "").policy.expires is None


@pytest.mark.parametrize(
    "secret", ["short", "with a space 0123456789", "ä" * 20, "x" * 513, "hr_sk_" + "0" * 36]
)
def test_a_secret_that_could_not_be_sent_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        changes.check("a", {}, secret)
    assert secret not in caught.value.message


def test_names_of_the_configuration_are_taken() -> None:
    with pytest.raises(KeyExists):
        changes.check("a", {}, SECRET, ["a"])


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"note": "y"}, {"note": "y"}),
        ({"note": None}, {"note": ""}),
        ({"expires": None}, {"expires": None}),
        ({"limits": {"tokens": 5}}, {"limits": Limits(requests=1, tokens=5)}),
        ({"limits": {"requests": None}}, {"limits": Limits()}),
        ({"limits": None}, {"limits": Limits()}),
        ({"models": []}, {"models": ()}),
    ],
)
def test_changes_are_merged(said: dict[str, Any], found: dict[str, Any]) -> None:
    base = KeyPolicy(note="x", expires=5.0, models=("m",), limits=Limits(requests=1))
    assert checked(KeyPolicy, merged(base, said)) == base.model_copy(update=found)


def test_the_weight_of_an_account_can_be_taken_away() -> None:
    base = AccountRecord(account="a", weight=2.0)
    assert checked(AccountRecord, merged(base, {"weight": None})).weight is None

"""Amounts, times and groups as people write them, and where the journal is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import credits, money
from deploy.configure import Unreachable, Where
from deploy.credits import Wrong


@given(st.integers(-(10**15), 10**15))
def test_an_amount_is_read_as_it_is_shown(amount: int) -> None:
    assert credits.micro(money.decimal(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (12_500_000, "12.50"), (1, "0.000001"), (-2_000_000, "-2.00")],
)
def test_an_amount_has_two_decimals_or_more(amount: int, text: str) -> None:
    assert money.decimal(amount) == text


@pytest.mark.parametrize("text", ["", "x", "1,5", "0.0000001", "nan", "inf", "1e30", "$5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        credits.micro(text)


def test_without_a_broker_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="headrace up"):
        credits.accounts(Where(tmp_path))


def test_the_ledgers_own_login_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(
        '[nats]\nurl = "nats://n:1"\nuser = "n"\n[ledger]\nuser = "l"\npassword = "p"\n'
        '[fallback]\ncurrency = "EUR"\n'
    )
    found = credits.accounts(Where(tmp_path, path))
    assert (found.login.url, found.login.user, found.currency) == ("nats://n:1", "l", "EUR")
    named = credits.accounts(Where(tmp_path, path, "nats://a:b@h:2"))
    assert (named.login.url, named.login.user) == ("nats://h:2", "a")

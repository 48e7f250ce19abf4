"""What the form of a key shows, and what of it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.console.pages import policy
from ingress.keys import pages
from ingress.keys.changes import check
from ingress.keys.records import StoredSecret, revoked
from schemas.keys import KeyPolicy, Limits
from schemas.settings import Key

NOW = 1_900_000_000.0


def _page(**changes: Any) -> dict[str, Any]:
    record = check("alice", changes, "")
    record = record.model_copy(update={"secrets": (StoredSecret(digest="0" * 64),)})
    return pages.of_record(record, NOW)


def test_a_form_that_nobody_touched_sends_nothing() -> None:
    page = _page(note="a", expires=NOW, limits={"requests": 5, "monthly_credits": 1.5}, weight=2)
    assert policy.said(policy.form(page), policy.form(page)) == {}


def test_only_what_changed_is_sent() -> None:
    before = policy.form(_page(limits={"requests": 5, "tokens": 10}))
    now = {**before, "requests": "6", "tokens": " ", "note": "for tests", "lane": "b"}
    sent = policy.said(now, before)
    assert sent == {"note": "for tests", "lane": "b", "limits": {"requests": "6", "tokens": None}}


def test_a_new_key_is_what_its_form_says() -> None:
    form = {**policy.fresh(), "account": "lab", "models": ["llama*", " "], "expires": "30d"}
    sent = policy.said({**form, "concurrent": "2"}, policy.fresh())
    made = check("alice", sent, "")
    assert made.policy.account == "lab"
    assert made.policy.models == ("llama*",)
    assert made.policy.limits == Limits(concurrent=2)
    assert made.policy.expires is not None


def test_a_form_without_changes_makes_the_default_key() -> None:
    assert policy.said(policy.fresh(), policy.fresh()) == {}
    assert policy.form(_page()) == policy.fresh()
    assert check("alice", {}, "").policy == KeyPolicy()


def test_a_moment_is_sent_as_it_was_shown() -> None:
    before = policy.form(_page(expires=NOW))
    sent = policy.said({**before, "expires": before["expires"].replace("2030", "2031")}, before)
    again = check("alice", sent, "").policy.expires
    assert again == NOW + 365 * 86_400


def test_a_row_of_the_table() -> None:
    row = policy.row(_page(limits={"requests": 60}, note="for Alice"))
    assert row == {
        "name": "alice",
        "account": "default",
        "state": "good",
        "scopes": "inference models:read",
        "models": "all",
        "limits": "60 requests/min",
        "expires": "never",
        "note": "for Alice",
        "live": True,
    }


def test_keys_that_cannot_be_changed_here_are_told_apart() -> None:
    gone = policy.row(pages.of_record(revoked(check("bob", {}, ""), NOW), NOW))
    assert (gone["live"], gone["state"]) == (False, "revoked 2030-03-17 17:46:40")
    key = Key(name="local", secret="sk-0123456789abcdef")
    fixed = policy.row(pages.of_configured(key))
    assert (fixed["live"], fixed["state"]) == (False, "of the configuration")


def test_what_is_used_is_said_beside_the_limit() -> None:
    page = {**_page(limits={"requests": 60}), "used": {"requests": 3, "monthly_credits": 0.25}}
    assert policy.used(page) == [("Requests a minute", "3 of 60"), ("Credits a month", "0.25")]
    assert policy.used(_page()) == []


@pytest.mark.parametrize("used", [None, 3, []])
def test_use_that_is_not_told_is_not_shown(used: Any) -> None:
    assert policy.used({**_page(), "used": used}) == []

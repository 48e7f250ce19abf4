"""What the messages of the store come to, in whatever order they come."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.http.auth import principal
from ingress.keys import secret
from ingress.keys.book import Pages
from ingress.keys.records import AccountRecord, KeyRecord, StoredSecret, pack
from schemas import subjects
from schemas.keys import KeyPolicy, Limits

PEPPER = b"p" * 32
ONE, OTHER = "sk-one-0123456789abcdef", "sk-other-0123456789abcd"


def key(name: str, *known: str, until: float | None = None, **policy: Any) -> tuple[str, bytes]:
    secrets = tuple(
        StoredSecret(digest=secret.digest(PEPPER, each).hex(), until=until) for each in known
    )
    record = KeyRecord(
        name=name, policy=KeyPolicy(**policy), secrets=secrets, created=1.0, changed=2.0
    )
    return subjects.key(name), pack(record)


def account(name: str, **said: Any) -> tuple[str, bytes]:
    return subjects.account_record(name), pack(AccountRecord(account=name, **said))


def pages(*messages: tuple[str, bytes]) -> Pages:
    made = Pages(principal)
    for subject, data in ((subjects.PEPPER, PEPPER), *messages):
        made.read(subject, data)
    return made


def whose(made: Pages, text: str) -> str | None:
    found = made.find(text)
    return found.who.key if found else None


def test_a_secret_leads_to_its_key_alone() -> None:
    made = pages(key("a", ONE, account="x", models=("m*",)), key("b", OTHER))
    assert (whose(made, ONE), whose(made, OTHER)) == ("a", "b")
    assert whose(made, "sk-none-0123456789abcd") is None
    found = made.find(ONE)
    assert found is not None
    assert (found.who.account, found.who.policy.models, found.until) == ("x", ("m*",), math.inf)


def test_the_last_record_of_a_key_counts() -> None:
    made = pages(key("a", ONE), key("a", OTHER))
    assert (whose(made, ONE), whose(made, OTHER), made.live) == (None, "a", 1)
    made.read(*key("a"))
    assert (whose(made, OTHER), len(made.records())) == (None, 1)


def test_a_secret_ends_with_its_key_or_before() -> None:
    made = pages(key("a", ONE, until=50.0, expires=90.0), key("b", OTHER, expires=70.0))
    assert [found.until for text in (ONE, OTHER) if (found := made.find(text))] == [50.0, 70.0]


def test_an_account_reaches_its_keys_whichever_came_first() -> None:
    limits = Limits(requests=3)
    for messages in (
        [key("a", ONE, account="x"), account("x", limits=limits, weight=2.0)],
        [account("x", limits=limits, weight=2.0), key("a", ONE, account="x")],
    ):
        found = pages(*messages).find(ONE)
        assert found is not None
        assert (found.who.account_limits, found.who.account_weight) == (limits, 2.0)
    other = pages(account("x", limits=limits), key("a", ONE, account="y")).find(ONE)
    assert other is not None
    assert (other.who.account_limits, other.who.account_weight) == (Limits(), None)


def test_a_record_that_cannot_be_read_takes_the_key_away() -> None:
    """It may come from a later release, and have limits that are not known here."""
    made = pages(key("a", ONE))
    with pytest.raises(ValueError, match="later"):
        made.read(subjects.key("a"), key("a", ONE)[1][:-1] + b', "later": 1}')
    assert whose(made, ONE) is None


def test_a_secret_of_two_keys_stays_with_the_later() -> None:
    made = pages(key("a", ONE), key("b", ONE), key("a"))
    assert whose(made, ONE) == "b"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", ONE, OTHER])), max_size=12))
def test_only_secrets_of_last_records_are_known(history: list[tuple[str, str]]) -> None:
    made, last = pages(), dict[str, str]()
    for name, text in history:
        # No two keys have one secret: the store's writers see to that.
        if text and text in [other for each, other in last.items() if each != name]:
            continue
        made.read(*key(name, *filter(None, [text])))
        last[name] = text
    for text in (ONE, OTHER):
        owners = [name for name, known in last.items() if known == text]
        assert whose(made, text) == (owners[0] if owners else None)


@given(
    st.text(min_size=1, max_size=64).filter(
        lambda text: text.isprintable() and text == text.strip() and "/" not in text
    )
)
def test_any_name_has_a_subject_of_its_own(name: str) -> None:
    assert subjects.recorded(subjects.key(name)) == name
    made = pages(key(name, ONE))
    assert whose(made, ONE) == name


def test_an_account_is_known_by_a_live_key_or_its_record() -> None:
    name, data = key("gone", account="z")
    revoked = KeyRecord.model_validate_json(data).model_copy(update={"revoked": 3.0})
    made = pages(key("a", ONE, account="x"), account("y"), (name, pack(revoked)))
    assert [made.has_account(each) for each in ("x", "y", "z", "w")] == [True, True, False, False]

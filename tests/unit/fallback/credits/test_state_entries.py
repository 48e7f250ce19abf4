from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.credits import state
from fallback.credits.entries import Entry, EntryKind
from tests.unit import fakes
from tests.unit.fallback.credits.counter_stream import START, Counters, purchase, subject

TEXTS = st.text(max_size=40)


def written(account: str, head: dict[str, str]) -> Entry:
    counters = Counters()
    counters.write(subject(account), head)
    return state.parse(counters.delivery(1))


@given(TEXTS.filter(bool), TEXTS, TEXTS, st.integers(0, 2**40), st.integers(0, 10**15))
def test_an_entry_is_read_as_it_was_written(
    account: str, job: str, note: str, turn: int, amount: int
) -> None:
    about: dict[str, str | int] = {"job": job, "turn": turn, "take": 2, "amount": amount}
    spent = purchase(job, account, prompt=7, seconds=1.5, streamed=True, cost=amount)
    head = state.headers(EntryKind.CHARGE, amount, "id", spent, **about, holder="h", note=note)
    assert all(value.isascii() and "\n" not in value for value in head.values())
    assert written(account, head) == Entry(
        account, EntryKind.CHARGE, amount, amount, 1, START, job, turn, 2, "h", amount, note, spent
    )


def test_a_change_has_its_sign() -> None:
    assert state.headers(EntryKind.RESERVE, -5, "id")[state.INCREMENT] == "-5"
    assert state.headers(EntryKind.RELEASE, 5, "id")[state.INCREMENT] == "+5"


@pytest.mark.parametrize(
    "said",
    ["", "{", "[]", "7", '{"kind": "new"}', '{"kind": "charge", "usage": {"cost": 1}}'],
)
def test_what_is_not_ours_counts_and_stands_for_nothing(said: str) -> None:
    head = {state.INCREMENT: "+3", state.ID: "x", state.HEADER: said}
    found = written("acme", head)
    assert (found.kind, found.change, found.balance, found.usage) == (EntryKind.OTHER, 3, 3, None)


@pytest.mark.parametrize("count", [2**64 - 1, 2**53, -1, True, "5", None, 1.5])
def test_numbers_that_a_provider_made_up_count_for_nothing(count: object) -> None:
    """They stay in the journal for ever, and sums with them could not be written any more."""
    spent = purchase("job", "acme", prompt=7, cost=3)
    head = state.headers(EntryKind.CHARGE, 5, "id", spent, job="job", turn=1, take=0)
    said = orjson.loads(head[state.HEADER])
    said["usage"].update(prompt=count, seconds=count if type(count) is int else -1.0)
    head[state.HEADER] = json.dumps(said)
    found = written("acme", head)
    assert (found.kind, found.job, found.change) == (EntryKind.CHARGE, "job", 5)
    assert found.usage is not None
    assert (found.usage.prompt, found.usage.seconds, found.usage.cost) == (0, 0.0, 3)


def test_fields_of_later_versions_are_passed_over() -> None:
    said = '{"kind": "grant", "note": "n", "colour": "red"}'
    found = written("acme", {state.INCREMENT: "1", state.ID: "x", state.HEADER: said})
    assert (found.kind, found.note) == (EntryKind.GRANT, "n")


@pytest.mark.parametrize(
    "broken",
    [{"reply": "x"}, {"reply": ""}, {"headers": {}}, {"data": b"{}"}, {"data": b"x"}],
)
def test_no_entry_of_a_counter_is_refused(broken: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "data": b'{"val": "1"}',
        "reply": "$JS.ACK.CREDITS.c.1.1.1.1800000000000000000.0",
        "headers": {state.INCREMENT: "1"},
    }
    state.parse(fakes.message(subject(), **fields))
    with pytest.raises(ValueError, match=r"."):
        state.parse(fakes.message(subject(), **{**fields, **broken}))

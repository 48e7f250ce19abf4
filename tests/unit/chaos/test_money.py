"""The books of a chaos run: what they take, and which faults they see."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fallback.credits.entries import Entry, EntryKind, Purchase
from fallback.providers.http import CALL
from tests.chaos import money
from tests.doubles.providers.record import Exchange, State, Used

JOB = "0123"
PROMPT = "#7 one two three"
BOUGHT = Purchase("tests", "test", JOB, "cloud", "sim", "m", "/v1/chat/completions", 4, 3, cost=10)
ESTIMATED = replace(BOUGHT, completion=1, cost=6)
"""Of a call whose client left: as many letters as four tokens have, and one event."""


WRITTEN = time.time() - time.monotonic() + 5.0
"""When the entries were: five seconds after the monotonic clock's zero."""


def call(state: State = "finished", written: int = 3, job: str = JOB, at: float = 1.0) -> Exchange:
    body = {"messages": [{"role": "user", "content": PROMPT}]}
    made = Exchange(0, 0, at, "POST", "/v1/chat/completions", {}, {CALL.lower(): job}, body)
    made.state, made.used = state, Used(input=4, output=written)
    return made


def entry(kind: EntryKind, take: int = 0, note: str = "", usage: Purchase | None = None) -> Entry:
    return Entry("tests", kind, 0, 0, 0, WRITTEN, JOB, 1, take, note=note, usage=usage)


RESERVED = entry(EntryKind.RESERVE)
CHARGED = entry(EntryKind.CHARGE, usage=BOUGHT)


def found(calls: list[Exchange], entries: list[Entry]) -> list[str]:
    return list(money.faults(money.joined(calls, entries), []))


@pytest.mark.parametrize(
    ("calls", "entries"),
    [
        ([call()], [RESERVED, CHARGED]),
        ([call(), call(at=9.0)], [RESERVED, CHARGED]),
        ([call("aborted", written=2)], [RESERVED, entry(EntryKind.CHARGE, usage=ESTIMATED)]),
        ([call("aborted")], [RESERVED, entry(EntryKind.RELEASE, note="swept")]),
        ([], [RESERVED, entry(EntryKind.RELEASE, note="cancelled")]),
        (
            [call("aborted"), call()],
            [
                RESERVED,
                entry(EntryKind.RELEASE, note="superseded"),
                entry(EntryKind.RESERVE, 1),
                entry(EntryKind.CHARGE, 1, usage=BOUGHT),
            ],
        ),
    ],
    ids=["charged", "paid before", "client left", "fallback lost", "never called", "superseded"],
)
def test_what_is_right(calls: list[Exchange], entries: list[Entry]) -> None:
    assert found(calls, entries) == []


@pytest.mark.parametrize(
    ("calls", "entries"),
    [
        ([], [RESERVED, CHARGED]),
        ([call(job="another")], [RESERVED, CHARGED]),
        ([call(written=2)], [RESERVED, CHARGED]),
        ([call("aborted", written=0)], [RESERVED, entry(EntryKind.CHARGE, usage=ESTIMATED)]),
        ([call()], [RESERVED, entry(EntryKind.RELEASE, note="cancelled")]),
        ([call(), call()], [RESERVED, CHARGED]),
        ([call()], []),
        ([call()], [RESERVED]),
        ([call()], [RESERVED, CHARGED, entry(EntryKind.RESERVE, 1), replace(CHARGED, take=1)]),
    ],
    ids=[
        "no call",
        "another's call",
        "more than was used",
        "more than was sent",
        "not charged",
        "one of two charged",
        "never reserved",
        "left open",
        "charged twice",
    ],
)
def test_what_is_wrong(calls: list[Exchange], entries: list[Entry]) -> None:
    assert found(calls, entries)

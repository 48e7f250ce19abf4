from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import tally
from schemas.tally import FOREVER, GROUPS, SUMMED, Question, Tally
from schemas.usage import Served

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
NAMES = st.sampled_from(["a", "b"])
ROWS = st.builds(
    Served,
    st.sampled_from(["2026-11-22", "2026-11-23"]), *[NAMES] * 4, *[st.integers(0, 99)] * 4,
    st.floats(0, 99), *[st.integers(0, 99)] * 3, st.floats(0, 99),
)  # fmt: skip


def row(day: str = "2026-11-22", account: str = "acme", key: str = "k", **more: float) -> Served:
    return Served(day, account, key, "m", "n", **more)  # type: ignore[arg-type]


def bought(at: float, **more: object) -> dict[str, object]:
    known = {"account": "acme", "key": "k", "model": "m", "provider": "p", "seconds": 2.5}
    numbers = {
        "requests": 1,
        "prompt": 3,
        "completion": 4,
        "cached": 1,
        "images": 0,
        "characters": 0,
    }
    return {**known, **numbers, "cost": 70, "uncharged": 5, "ended_ms": at * 1000, **more}


@given(st.lists(ROWS, max_size=20), st.permutations(GROUPS), st.integers(1, len(GROUPS)))
def test_the_sums_of_all_rows_are_the_total(
    rows: list[Served], groups: list[str], many: int
) -> None:
    found, whole = Tally(Question(groups[:many])), Tally(Question(("day",)))
    for each in rows:
        found.served(each, NOON)
        whole.served(each, NOON)
    for name in SUMMED:
        assert found.total()[name] == pytest.approx(whole.total()[name])
        assert sum(r[name] for r in found.rows()) == pytest.approx(found.total()[name], abs=0.1)
    assert len({tuple(r[n] for n in groups[:many]) for r in found.rows()}) == len(found.rows())


def test_workers_and_providers_stand_in_one_row_unless_they_are_asked_for() -> None:
    by_key, by_place = Tally(Question(("key",))), Tally(Question(("node", "provider", "month")))
    for found in (by_key, by_place):
        found.served(row(requests=2, prompt=10, seconds=1.5, failed=1), NOON)
        found.bought(bought(NOON))
    [both] = by_key.rows()
    assert (both["requests"], both["failed"], both["prompt"], both["cost"]) == (3, 1, 13, 70)
    assert (both["slot_seconds"], both["audio_seconds"], both["uncharged"]) == (1.5, 2.5, 5)
    places = [(r["node"], r["provider"], r["month"], r["requests"]) for r in by_place.rows()]
    assert places == [("", "p", "2026-11", 1), ("n", "", "2026-11", 2)]


@pytest.mark.parametrize(
    ("question", "requests"),
    [
        (Question(("day",)), 7),
        (Question(("day",), account="acme"), 3),
        (Question(("day",), account="acme", key="k"), 1),
        (Question(("day",), key="z"), 0),
        (Question(("day",), since=MIDNIGHT), 4),
        (Question(("day",), until=MIDNIGHT), 3),
        (Question(("day",), since=NOON + 1, until=MIDNIGHT - 1), 0),
    ],
)
def test_only_what_is_asked_for_is_counted(question: Question, requests: int) -> None:
    found = Tally(question)
    found.served(row(requests=1), NOON)
    found.served(row(key="other", requests=2), NOON)
    # Of a day that was over when it was written.
    found.served(row("2026-11-23", "umbrella", requests=4), MIDNIGHT + 86_400 + 30)
    assert found.total()["requests"] == requests


def test_a_day_s_rows_that_are_written_after_it_are_that_day_s() -> None:
    found = Tally(Question(("day",), until=MIDNIGHT))
    found.served(row(requests=1), MIDNIGHT + 20)
    assert found.total()["requests"] == 1


def test_a_question_is_read_as_it_is_asked() -> None:
    question = Question(("day", "key"), 1.5, 2.5, "acme", "k")
    assert tally.of(question.asked()) == question
    for wrong in ({}, {**question.asked(), "by": ["colour"]}, {**question.asked(), "since": "x"}):
        with pytest.raises((ValueError, KeyError, TypeError)):
            tally.of(wrong)


def test_rows_of_one_question_are_added_to_another() -> None:
    inner, outer = Tally(Question(("key", "day"))), Tally(Question(("key", "day")))
    for found in (inner, outer):
        found.bought(bought(NOON))
    for each in inner.rows():
        outer.add(each)
    [both] = outer.rows()
    assert (both["requests"], both["cost"], both["day"]) == (2, 140, "2026-11-22")


def test_a_moment_is_a_span_a_day_or_a_month() -> None:
    assert tally.moment("7d", now=10**9) == 10**9 - 7 * 86_400
    assert tally.moment("90m", now=10**9) == 10**9 - 5400
    assert tally.moment("2026-11-01") == tally.moment("2026-11") == 1_793_491_200
    assert tally.moment("2026-11-22", end=True) == MIDNIGHT
    assert tally.moment("9999-12", end=True) == FOREVER
    for text in ("", "7", "d", "-1d", "2026-13-01", "2026-13", "yesterday", "٧d"):
        with pytest.raises(ValueError, match="neither"):
            tally.moment(text)


@given(st.dates(datetime(1990, 1, 1).date(), datetime(2200, 1, 1).date()))
def test_a_month_ends_where_the_next_begins(day: object) -> None:
    text = f"{day:%Y-%m}"
    after = datetime.fromtimestamp(tally.moment(text, end=True), UTC)
    assert after.day == 1
    assert tally.moment(f"{after:%Y-%m}") == after.timestamp()
    assert (after - timedelta(days=1)).strftime("%Y-%m") == text


def test_groups_are_known_and_named_once() -> None:
    assert tally.grouped("day, key") == ("day", "key")
    for text in ("", "colour", "day,day", ","):
        with pytest.raises(ValueError, match="no list of day"):
            tally.grouped(text)


@pytest.mark.parametrize("until", [NOON, NOON - 1])
def test_a_span_has_time_in_it(until: float) -> None:
    with pytest.raises(ValueError, match="it is not after since"):
        Question(("day",), since=NOON, until=until)

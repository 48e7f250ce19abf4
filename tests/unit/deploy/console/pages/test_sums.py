"""Usage as it is plotted and listed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.console.pages import bars, sums
from schemas.tally import SUMMED, Question, Tally
from schemas.usage import Served

ROWS: list[dict[str, Any]] = [
    {"day": "2026-11-28", "model": "a", "requests": 2, "prompt": 10, "completion": 5, "cost": 0},
    {"day": "2026-11-29", "model": "a", "requests": 1, "prompt": 1, "completion": 1, "cost": 0},
    {"day": "2026-11-29", "model": "b", "requests": 5, "cost": 12_500_000},
]
NOON = 1_795_953_600.0
"""2026-11-29, noon, UTC."""


def test_a_plot_has_the_largest_first() -> None:
    found = sums.series(ROWS, "model", sums.MEASURES["requests"])
    assert list(found.items()) == [
        ("b", {"2026-11-29": 5}),
        ("a", {"2026-11-28": 2, "2026-11-29": 1}),
    ]


def test_what_a_measure_has_nothing_of_is_not_in_the_plot() -> None:
    assert list(sums.series(ROWS, "model", sums.MEASURES["cost"])) == ["b"]
    assert sums.series(ROWS, "model", sums.MEASURES["images"]) == {}


def test_the_smallest_are_one_together() -> None:
    rows = [{"day": "2026-11-29", "model": f"m{n}", "requests": n + 1} for n in range(20)]
    found = sums.series(rows, "model", sums.MEASURES["requests"])
    assert len(found) == bars.MOST
    assert list(found)[-1] == bars.OTHERS
    assert sum(sum(each.values()) for each in found.values()) == 210


def test_days_without_usage_are_shown_too() -> None:
    assert sums.days("3d", NOON) == ["2026-11-26", "2026-11-27", "2026-11-28", "2026-11-29"]


def test_the_table_has_the_columns_that_matter() -> None:
    titles, cells = sums.table(ROWS, "model")
    assert titles == ["model", "requests", "prompt tokens", "answer tokens", "slots", "cost"]
    assert cells == [
        ["b", "5", "0", "0", "0 s", "12.50"],
        ["a", "3", "11", "6", "0 s", "0.00"],
    ]


def test_the_columns_are_those_that_are_summed() -> None:
    assert set(sums._COLUMNS) == set(SUMMED)


def test_real_rows_are_read() -> None:
    tally = Tally(Question(("day", "node")))
    tally.served(Served("2026-11-29", "lab", "alice", "m", "gpu", requests=3, prompt=7), NOON)
    assert sums.table(tally.rows(), "node")[1][0][:3] == ["gpu", "3", "7"]


@pytest.mark.parametrize(
    ("found", "text"),
    [(0, "0"), (1234, "1,234"), (0.25, "0.2"), (1_234_567, "1.235 M"), (2e9, "2 G")],
)
def test_counts(found: float, text: str) -> None:
    assert sums.count(found) == text


@pytest.mark.parametrize(("found", "text"), [(5, "5 s"), (90, "1.5 min"), (7200, "2 h")])
def test_spans(found: float, text: str) -> None:
    assert sums.span(found) == text


def test_a_line_of_the_ledger() -> None:
    grant = {"at": NOON, "kind": "grant", "change": 5_000_000, "balance": 5_000_000, "note": "Hi"}
    assert sums.entry({**grant, "usage": None, "job": ""}) == {
        "at": "2026-11-29 12:00:00",
        "kind": "grant",
        "change": "+5.00",
        "balance": "5.00",
        "job": "",
        "about": "Hi",
    }
    usage = {"provider": "openai", "provider_model": "gpt-x"}
    charge = {**grant, "kind": "charge", "change": -1, "usage": usage}
    assert sums.entry(charge)["about"] == "openai/gpt-x"
    assert sums.entry(charge)["change"] == "-0.000001"


class _Drawn(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.rects: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("svg", "rect", "title", "text", "line")
        if tag == "rect":
            self.rects.append(dict(attrs))


_amounts = st.dictionaries(
    st.sampled_from(sums.days("20d", NOON)), st.floats(0, 1e15, allow_subnormal=False), max_size=9
)


@given(st.dictionaries(st.text(max_size=20), _amounts, max_size=12))
def test_any_series_is_drawn_within_its_frame(series: bars.Series) -> None:
    shown = sums.days("20d", NOON)
    drawn = bars.drawn(bars.merged(series), shown, 'Requests <"of">', sums.count)
    for rect in _Drawn(drawn).rects:
        x, y, width, height = (float(rect[name] or "") for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= 720
        assert -0.1 <= y <= y + height <= 220


def test_a_plot_is_told_in_words() -> None:
    series = sums.series(ROWS, "model", sums.MEASURES["requests"])
    said = bars.summary(series, ["2026-11-28", "2026-11-29"], "Requests", sums.count)
    assert said == "Requests, 2026-11-28 to 2026-11-29: 8 in all; b 5, a 3."
    assert bars.summary({}, [], "Requests", sums.count) == "Requests: nothing."


def test_names_of_clients_are_text_in_a_plot() -> None:
    series = {"<script>": {"2026-11-29": 1.0}}
    drawn = bars.drawn(series, ["2026-11-29"], "Requests", sums.count)
    assert "<script>" not in drawn + bars.legend(series, sums.count)


@pytest.mark.parametrize(
    ("chosen", "names", "found"),
    [("b", ["a", "b"], "b"), ("c", ["a", "b"], "a"), ("", ["a"], "a"), ("a", [], "")],
)
def test_what_was_chosen_stays_chosen(chosen: str, names: list[str], found: str) -> None:
    assert sums.still(chosen, names) == found

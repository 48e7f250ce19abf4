"""The console's plots, and their words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from deploy.console.history import Point
from deploy.console.pages import plots
from deploy.console.pages.plots import Line


def points(*rates: float) -> list[Point]:
    return [
        Point(n * 30.0, rate, int(rate > 0), rate or None, None, None, None)
        for n, rate in enumerate(rates)
    ]


def test_the_words_say_what_the_line_shows() -> None:
    found = points(*[0.0] * 60, 40.0, 10.0, *[0.0] * 58)
    said = plots.summary("Tokens", found, plots.of_rate(found), plots.per_second)
    assert "last 0 tokens/s" in said
    assert "highest 40 tokens/s 30 min ago" in said


def test_what_was_last_is_said_as_now() -> None:
    found = points(*[0.0] * 10, 40.0, 10.0)
    assert "now 10 tokens/s" in plots.plot("x", found, plots.of_rate(found), plots.per_second)
    assert (
        "now" not in plots.plot("x", found, [Line("a", [5.0, *[None] * 11])], str).split("svg")[0]
    )


def test_an_empty_hour_says_so() -> None:
    found = points(0.0, 0.0)
    assert "nothing yet" in plots.summary("Tokens", found, plots.of_rate(found), plots.per_second)


def test_what_is_not_known_is_a_gap_and_one_alone_a_dot() -> None:
    found = points(1.0, 0.0, 1.0, 1.0)
    drawing = plots.plot("First token", found, plots.of_ttft(found), str)
    svg = ElementTree.fromstring(drawing[drawing.index("<svg") : drawing.index("</svg>") + 6])
    drawn = [path.attrib["d"] for path in svg if "hd-line" in path.attrib["class"]]
    assert [line.count("M") for line in drawn] == [1, 1, 0, 0]  # p50 and its dots, p95 and its dots
    assert drawn[0].count("L") == 1


def test_a_name_is_no_markup() -> None:
    found = points(1.0)
    drawing = plots.plot("<img>", found, [Line("<b>", [1.0]), Line("x", [None])], str)
    assert "<img>" not in drawing
    assert "<b>x" not in drawing
    assert "&lt;b&gt;" in drawing


@pytest.mark.parametrize(
    ("most", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.01, 2), (34, 50), (51, 100), (0.02, 0.02)]
)
def test_scales_are_round(most: float, top: float) -> None:
    assert plots.nice(most) == pytest.approx(top)


def test_figures_leave_out_what_is_empty() -> None:
    found = plots.figures(points(0.0, 2.0, 0.0))
    assert len(found) == 1
    assert found[0][1:4] == ("1", "2", "2.00 s")
    assert len(found[0]) == len(plots.COLUMNS)

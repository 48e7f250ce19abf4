"""The line of one request."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from deploy.console.pages import timeline

ROW = {
    "state": "ended",
    "status": 200,
    "stream": True,
    "timeline": [
        {"at": 0.0, "event": "queued"},
        {"at": 0.01, "event": "claimed", "by": "node:a"},
        {"at": 0.5, "event": "lost", "by": "node:a"},
        {"at": 0.7, "event": "claimed", "by": "provider:openai"},
        {"at": 0.8, "event": "first_token"},
        {"at": 2.0, "event": "ended"},
    ],
}


def test_each_step_is_told_in_words() -> None:
    assert [step.words for step in timeline.steps(ROW)] == [
        "Queued",
        "Claimed by node a",
        "Lost by node a",
        "Taken over by provider openai",
        "First token",
        "Ended: done",
    ]


def test_one_that_runs_reaches_until_now() -> None:
    row = {**ROW, "state": "running", "took": 3.0, "timeline": ROW["timeline"][:2]}  # type: ignore[index]
    last = timeline.steps(row)[-1]
    assert (last.at, last.words) == (3.0, "Runs")


def test_the_line_has_a_mark_for_each_step_and_says_the_same_in_words() -> None:
    drawing = timeline.drawn(timeline.steps(ROW))
    found = ElementTree.fromstring(drawing)
    assert len(found.findall("g")) == 6
    assert "500 ms: Lost by node a" in found.attrib["aria-label"]
    assert timeline.listed(timeline.steps(ROW)).count("<li>") == 6


def test_names_are_no_markup() -> None:
    row = {**ROW, "timeline": [{"at": 0, "event": "claimed", "by": "node:<img onerror=x>"}]}
    made = timeline.drawn(timeline.steps(row)) + timeline.listed(timeline.steps(row))
    assert "<img" not in made


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40).map(sorted))
def test_marks_stand_apart_and_on_the_line(times: list[float]) -> None:
    steps = [timeline.Step(at, "claimed", "x", "begin") for at in times]
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', timeline.drawn(steps))]
    assert places == sorted(places)
    assert places[0] >= 14
    assert places[-1] <= timeline.WIDTH - 14 + 0.05
    apart = min(26, (timeline.WIDTH - 28) / max(1, len(times) - 1))
    assert all(b - a >= apart - 0.11 for a, b in itertools.pairwise(places))

"""What one ingress tells of its requests."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.answer.recent import Recent
from ingress.jobs.state import Ended, Times
from schemas import requests as words
from schemas.requests import MOST_ROWS, Question, Told
from tests.unit.fakes import FakeBus, message

ACCOUNT = "a"


def _ended(number: int, why: str, **more: Any) -> Ended:
    said = {"id": f"r{number}", "job": f"j{number}", "error": "engine_failed", "why": why}
    line = {**said, "stream": True, "ms": 2000.0, **more}
    times = Times(queued=0.0, posted=0.0, freed=0.0)
    return Ended(number, ACCOUNT, 0, line, times, [], "node:n", 1.0)


def _told(bus: FakeBus, why: str) -> Told:
    ended = [_ended(number, why) for number in range(1, MOST_ROWS + 1)]
    recent = Recent(bus, "i", {}, ended)
    recent._answer(message("s", Question().pack(), "reply"))
    (post,) = bus.posts
    assert len(post.payload) < bus.max_payload
    return words.told(post.payload)


def test_all_rows_are_told_that_were_asked_for() -> None:
    found = _told(FakeBus(), "it failed")
    assert [row["id"] for row in found.ended] == [f"j{n}" for n in range(1, MOST_ROWS + 1)]


def test_long_reasons_leave_room_for_the_newest() -> None:
    found = _told(FakeBus(), "失" * 1024)
    assert found.last == MOST_ROWS
    assert found.ended[-1]["id"] == f"j{MOST_ROWS}"
    assert len(found.ended) > MOST_ROWS // 4 - 1


@pytest.mark.parametrize(
    ("said", "pace"),
    [
        ({"ttft_ms": 1000.0, "completion_tokens": 101}, 100.0),
        ({"stream": False, "queue_ms": 500.0, "ttft_ms": 1999.0, "completion_tokens": 30}, 20.0),
        ({"ttft_ms": 2000.0, "completion_tokens": 30}, None),
        ({"ttft_ms": 1000.0, "completion_tokens": 1}, None),
        ({"ttft_ms": 1000.0}, None),
        ({"completion_tokens": 30}, None),
    ],
)
def test_how_fast_an_answer_came_is_told(said: dict[str, Any], pace: float | None) -> None:
    recent = Recent(FakeBus(), "i", {}, [_ended(1, "", **said)])
    (row,) = recent.told(Question(), 0.0).ended
    assert row.get("tokens_per_second") == pace

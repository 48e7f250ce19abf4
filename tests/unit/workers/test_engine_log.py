"""How often the log says that an engine has failed."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from workers import engine_log
from workers.engine_log import EngineLog


class Told:
    """What was logged of an engine, by a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log = EngineLog("gpu", lambda: self.now)

    def tell(self, *said: str, **about: Any) -> list[Any]:
        with capture_logs() as lines:
            self.log.tell(*said, **about)
        return lines


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_failure_is_a_warning_and_again_each_minute(told: Told) -> None:
    assert told.tell("failed", "away", "Start it") == [
        {"event": "engine.failed", "log_level": "warning", "engine": "gpu",
         "reason": "away", "hint": "Start it"}
    ]  # fmt: skip
    lines = []
    for _ in range(25):  # as it is tried each five seconds
        told.now += 5
        lines += told.tell("failed", "away", "Start it")
    assert [line["seconds"] for line in lines] == [60, 120]
    assert {line["hint"] for line in lines} == {"Start it"}


def test_another_reason_is_told_at_once(told: Told) -> None:
    told.tell("failed", "away")
    told.now += 5
    (line,) = told.tell("failed", "no memory")
    assert (line["reason"], line["seconds"]) == ("no memory", 5)


def test_what_lasts_counts_from_its_beginning(told: Told) -> None:
    told.tell("failed", "away")
    told.now += 500
    told.tell("ready", "", slots=2)
    told.tell("failed", "away")
    told.now += engine_log.REMIND
    (line,) = told.tell("failed", "away")
    assert line["seconds"] == 60


def test_one_that_is_well_is_told_once(told: Told) -> None:
    (line,) = told.tell("ready", "", slots=2, models=["m"])
    assert line == {"event": "engine.ready", "log_level": "info", "engine": "gpu",
                    "slots": 2, "models": ["m"]}  # fmt: skip
    assert told.tell("stopping", "")[0]["log_level"] == "info"


def test_one_that_is_odd_is_a_warning_though_it_is_ready(told: Told) -> None:
    (line,) = told.tell("ready", "it is llama-server", slots=2)
    assert (line["log_level"], line["reason"]) == ("warning", "it is llama-server")

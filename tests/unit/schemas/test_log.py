from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
import structlog

from schemas import log
from schemas.settings import Log
from tests.unit import fakes

Stderr = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def _defaults_again() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def written(stderr: Stderr) -> list[bytes]:
    return stderr.readouterr().err.splitlines()


def test_one_line_of_json_an_event(capfdbinary: Stderr) -> None:
    log.configure(Log(), "worker")
    structlog.get_logger("x").info("engine.ready", engine="e", odd={1}, text="a\nb")

    (line,) = map(orjson.loads, written(capfdbinary))
    assert (line["event"], line["level"], line["engine"]) == ("engine.ready", "info", "e")
    assert (line["odd"], line["text"]) == ("{1}", "a\nb")
    assert line["timestamp"].endswith("+00:00")


async def test_the_lines_of_one_turn_come_together(capfdbinary: Stderr) -> None:
    log.configure(Log(), "worker")
    logger = structlog.get_logger("x")
    logger.info("one")
    logger.info("two")
    assert written(capfdbinary) == []
    await fakes.turns(1)
    assert [orjson.loads(line)["event"] for line in written(capfdbinary)] == ["one", "two"]
    logger.info("three")
    await fakes.turns(1)
    assert len(written(capfdbinary)) == 1


def test_a_terminal_is_told_nothing_that_it_would_obey(capfdbinary: Stderr) -> None:
    log.configure(Log(format="console"), "worker")
    structlog.get_logger("x").info("engine.said", line="\x1b[2J", more="a\nb")
    (line,) = written(capfdbinary)
    assert b"\\x1b[2J" in line
    assert b"a\\nb" in line


def test_below_the_level_nothing_is_written(capfdbinary: Stderr) -> None:
    log.configure(Log(level="warning"), "worker")
    logger = structlog.get_logger("x")
    logger.info("quiet")
    logger.warning("loud")

    assert [orjson.loads(line)["event"] for line in written(capfdbinary)] == ["loud"]


def test_an_exception_is_one_line_too(capfdbinary: Stderr) -> None:
    log.configure(Log(), "worker")
    try:
        raise ValueError("why")
    except ValueError as fault:
        structlog.get_logger("x").error("internal", exc_info=fault)

    (line,) = map(orjson.loads, written(capfdbinary))
    assert "ValueError: why" in line["exception"]


def test_a_terminal_gets_text(capfdbinary: Stderr) -> None:
    log.configure(Log(format="console"), "worker")
    structlog.get_logger("x").info("engine.ready", engine="e")

    (line,) = written(capfdbinary)
    assert b"engine.ready" in line
    assert b"engine=e" in line

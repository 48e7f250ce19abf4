from __future__ import annotations

import pty
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

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


@contextmanager
def terminal(**settings: Any) -> Iterator[BinaryIO]:
    """What the log says on a terminal, which is stderr."""
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb", buffering=0) as said,
        open(theirs, "w") as stderr,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(sys, "stderr", stderr)  # not in a fixture: pytest sets it before each test
        patched.delenv("NO_COLOR", raising=False)
        log.configure(Log(**settings), "worker")
        yield said


def test_a_terminal_gets_words() -> None:
    with terminal() as said:
        structlog.get_logger("x").info("engine.ready", engine="e\x1b[2J", models=["a"])
        line = said.readline()
    assert re.fullmatch(rb"\d\d:\d\d:\d\d engine e\\x1b\[2J is ready: a\r\n", line), line


def test_what_is_bad_is_told_by_a_word_and_a_colour() -> None:
    with terminal() as said:
        structlog.get_logger("x").warning("bus.disconnected")
        line = said.readline()
    assert re.fullmatch(rb"\x1b\[33m\S+ warning: lost .*\x1b\[0m\r\n", line), line


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal() as said:
        monkeypatch.setenv("NO_COLOR", "1")
        log.configure(Log(), "worker")
        structlog.get_logger("x").warning("bus.disconnected")
        assert b"\x1b" not in said.readline()


def test_a_terminal_gets_json_if_it_is_asked_for() -> None:
    with terminal(format="json") as said:
        structlog.get_logger("x").info("engine.ready", engine="e")
        assert orjson.loads(said.readline())["event"] == "engine.ready"


def test_a_traceback_keeps_its_lines() -> None:
    with terminal() as said:
        try:
            raise ValueError("why")
        except ValueError as fault:
            structlog.get_logger("x").error("internal", exc_info=fault)
        assert b"error: internal" in said.readline()
        assert said.readline().startswith(b"Traceback")

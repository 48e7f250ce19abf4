"""Structured logs: one line for each event, as JSON or in words; never prompts or secrets.

The words (`log_lines`) are for a terminal, the JSON is for all else, unless the settings say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict

from schemas import log_lines
from schemas.settings import Log
from schemas.terminal import Terminal
from schemas.traces import CURRENT

_COLOURS = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m", "debug": "\033[2m"}
_PLAIN = "\033[0m"
_LEVELS = {"warn": "warning", "exception": "error"}
"""Levels that have a name beside that of the method."""
_with_exception = structlog.processors.format_exc_info


class _Gathered:
    """A logger to stderr, with one write for all lines of a turn of the event loop, because a write
    costs more than making the line. Without a running loop, each line is written at once.

    It stands in the place of structlog's own, which takes a lock and three calls for each line.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        if not self._lines:
            try:
                asyncio.get_running_loop().call_soon(self._hand_over)
            except RuntimeError:
                self._out.write(line)
                self._out.flush()
                return
        self._lines.append(line)

    msg = debug = info = warning = error = exception = critical = write

    def _hand_over(self) -> None:
        lines, self._lines = self._lines, []
        self._out.write(b"".join(lines))
        self._out.flush()


def _stamp(logger: object, method: str, event: EventDict) -> EventDict:
    """What each event has beside what is said of it, in one call."""
    event["level"] = _LEVELS.get(method, method)
    event["timestamp"] = datetime.now(UTC)  # orjson writes RFC 3339, at a third of the cost
    return _with_exception(logger, method, event) if "exc_info" in event else event


def _json(_: object, __: str, event: EventDict) -> bytes:
    if (trace := CURRENT.get()) is not None:
        event["trace_id"], event["span_id"] = trace.id, trace.span
    return orjson.dumps(event, str, orjson.OPT_APPEND_NEWLINE)


class _Words:
    """Makes an event one line for people: when, how bad if it is, and what."""

    def __init__(self, coloured: bool) -> None:
        self._coloured = coloured

    def __call__(self, _: object, __: str, event: EventDict) -> str:
        at: datetime = event["timestamp"]
        level = event["level"]
        bad = f"{level}: " if level in ("warning", "error", "critical") else ""
        line = f"{at.astimezone():%H:%M:%S} {bad}{log_lines.line(event)}"
        if self._coloured and level in _COLOURS:
            line = f"{_COLOURS[level]}{line}{_PLAIN}"
        return "\n".join([line, *filter(None, [event.get("exception")])])


def _same(logger: object, *_: object) -> object:
    return logger


def configure(settings: Log, process: str, *, for_now: bool = False) -> None:
    """Set up structlog for this process; lines go to stderr. `for_now`: it is set up anew later,
    so that no logger is to keep what holds now."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    processors: list[structlog.typing.Processor] = [_stamp]
    terminal = sys.stderr.isatty()
    if settings.format == "console" or (settings.format == "auto" and terminal):
        coloured = terminal and not os.environ.get("NO_COLOR")  # https://no-color.org
        processors.append(_Words(coloured))
        factory: Callable[[], object] = structlog.WriteLoggerFactory(
            cast(TextIO, Terminal(sys.stderr.fileno()))
        )
    else:
        processors.append(_json)
        out = _Gathered(sys.stderr.buffer)
        factory = partial(_same, out)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=not for_now,
    )
    logging.basicConfig(level=logging.WARNING, format=f"{process} %(name)s %(message)s")

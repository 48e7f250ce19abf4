"""Structured logs: one line for each event, as JSON or for a terminal; never prompts or secrets."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO, cast

import orjson
import structlog
from structlog.typing import EventDict

from schemas.settings import Log


def _dumps(event: EventDict, **_: object) -> bytes:
    return orjson.dumps(event, default=str)


class _Gathered:
    """stderr, with one write for all lines of a turn of the event loop, because a write costs more
    than making the line. Without a running loop, each line is written at once.
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

    def flush(self) -> None:
        """Does nothing: structlog calls it after each line, and `_hand_over` flushes them all."""

    def _hand_over(self) -> None:
        lines, self._lines = self._lines, []
        self._out.write(b"".join(lines))
        self._out.flush()


def _stamp(_: object, __: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC)  # orjson writes RFC 3339, at a third of the cost
    return event


def _visible(_: object, __: str, event: EventDict) -> EventDict:
    """Escape control characters: a terminal would obey those in texts of clients and engines."""
    for name, value in event.items():
        # A traceback is our own text, and needs its lines.
        if isinstance(value, str) and not value.isprintable() and name != "exception":
            event[name] = value.encode("unicode_escape").decode()
    return event


def configure(settings: Log, process: str) -> None:
    """Set up structlog for this process; lines go to stderr."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        _stamp,
        structlog.processors.format_exc_info,
    ]
    if settings.format == "json":
        processors.append(structlog.processors.JSONRenderer(serializer=_dumps))
        out = cast(BinaryIO, _Gathered(sys.stderr.buffer))
        factory: Callable[[], object] = structlog.BytesLoggerFactory(out)
    else:
        processors += [_visible, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, format=f"{process} %(name)s %(message)s")

"""What the log says of one engine: each change at once, and what lasts again each minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger("engine")

REMIND = 60.0
"""Seconds until it is said again that an engine has failed, or still starts."""


class EngineLog:
    """`clock`: monotonic seconds."""

    def __init__(self, engine: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._state = ""
        self._reason = ""
        self._since = 0.0
        self._told = 0.0

    def tell(self, state: str, reason: str, hint: str = "", **about: Any) -> None:
        """`reason`: why it is not ready, or what is odd about it; `hint`: what to do about that;
        `about`: what else is said of a state that is new."""
        now, about = self._clock(), dict(about)
        if state != self._state:
            self._since = now
        elif reason == self._reason and now - self._told < REMIND:
            return
        else:
            about = {"seconds": round(now - self._since)}
        self._state, self._reason, self._told = state, reason, now
        said = {"reason": reason, "hint": hint, **about}
        bad = state == "failed" or (state == "ready" and reason)
        write = log.warning if bad else log.info
        write(f"engine.{state}", engine=self._engine, **{k: v for k, v in said.items() if v})

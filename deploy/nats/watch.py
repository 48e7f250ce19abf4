"""Keeps a broker running that others depend on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from deploy.nats.broker import Broker
from deploy.nats.errors import BrokerError

_LOOK_AGAIN = 0.2
_BACKOFF_MAX = 10.0
_RENEW = 86_400.0
"""Seconds between two looks at the broker's certificate."""


class Told(Protocol):
    """Who is told of it."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


async def kept_running(broker: Broker, stop: asyncio.Event, told: Told) -> None:
    """Until `stop`, start the broker again when it ends: same ports, same store. Each day, have it
    show a certificate that does not end soon."""
    delay, looked = _LOOK_AGAIN, time.monotonic()
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay)
            return
        if broker.alive:
            delay = _LOOK_AGAIN
            if time.monotonic() - looked > _RENEW:
                looked = time.monotonic()
                await _renew(broker, told)
            continue
        told.warn("the broker ended; it is started again")
        try:
            await asyncio.to_thread(broker.restart)
        except BrokerError as fault:
            told.warn(str(fault))
            delay = min(_BACKOFF_MAX, delay * 3)
        else:
            told.note("the broker runs again")


async def _renew(broker: Broker, told: Told) -> None:
    try:
        if await asyncio.to_thread(broker.renew):
            told.note("the broker has a new certificate")
    except (BrokerError, OSError) as fault:
        told.warn(f"the broker's certificate cannot be looked at: {fault}")

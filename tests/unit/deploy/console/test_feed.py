"""How the console follows the broker, without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy import doctor
from deploy.console import feed as feeds
from deploy.console.feed import Feed
from deploy.findings import Finding
from deploy.survey import Survey, Surveyor
from schemas.settings import load

SEEN = Survey("nats://here", "2.11", (), (), (), {})


class Broker:
    """A connection that ends with the first picture."""

    inbox = "_INBOX.x"
    max_payload = 2**20

    def __init__(self) -> None:
        self.closed = asyncio.Event()


async def test_a_doctor_who_is_slow_leaves_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, asked = Broker(), []

    async def look(_: Surveyor) -> Survey:
        return SEEN

    async def gather(_: Surveyor) -> None:
        pass

    async def fabric(*_: Any, **__: Any) -> AsyncIterator[Finding]:
        asked.append("what")
        bus.closed.set()
        await asyncio.Event().wait()
        yield Finding("ok", "never")

    monkeypatch.setattr(Surveyor, "gather", gather)
    monkeypatch.setattr(Surveyor, "look", look)
    monkeypatch.setattr(doctor, "fabric", fabric)
    for name in ("ADVICE", "LOOK", "IDLE"):
        monkeypatch.setattr(feeds, name, 0.0)
    feed = Feed(load())
    await feed._look_on(bus)  # type: ignore[arg-type]
    assert (feed.survey, feed.away, feed.findings, asked) == (SEEN, "", None, ["what"])

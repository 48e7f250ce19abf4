"""The broker's counter stream in memory: dedupes, delivers, and fails as a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from fallback.credits import state
from fallback.credits.entries import Entry, Purchase
from schemas import subjects
from schemas.bus import BusError
from tests.unit.fake_stream import START, FakeStream, StreamBus

__all__ = ["START", "Call", "CounterBus", "Counters", "purchase", "subject"]


@dataclass
class Call:
    """A message on its way to the broker; `answer` is what its sender waits for."""

    bus: CounterBus
    subject: str
    headers: dict[str, str]
    answer: asyncio.Future[dict[str, Any]]


@dataclass
class Counters(FakeStream):
    """Ids are remembered for ever."""

    ids: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    parsed: list[Entry] = field(default_factory=list)

    def write(self, subject: str, headers: dict[str, str]) -> dict[str, Any]:
        id = headers[state.ID]
        if id in self.ids:
            return {"seq": self.ids[id], "duplicate": True}
        value = self.values.get(subject, 0) + int(headers[state.INCREMENT])
        self.values[subject] = value
        self.ids[id] = len(self.messages) + 1
        seq = self.add(subject, orjson.dumps({"val": str(value)}), headers)
        return {"seq": seq, "val": str(value)}

    def entries(self) -> list[Entry]:
        for seq in range(len(self.parsed) + 1, len(self.messages) + 1):
            self.parsed.append(state.parse(self.delivery(seq)))
        return self.parsed


class CounterBus(StreamBus):
    """`gated`: what is stored waits in `calls` for the test."""

    def __init__(self, counters: Counters, name: str = "one") -> None:
        super().__init__(counters, f"_L.{name}")
        self.counters = counters
        self.gated = False
        self.calls: list[Call] = []
        self.stored = 0

    async def store(
        self, subject: str, headers: dict[str, str], payload: bytes = b"", timeout: float = 2.0
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        self.stored += 1
        if not self.gated:
            return self.counters.write(subject, headers)
        call = Call(self, subject, headers, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        return await call.answer


def purchase(job: str, account: str = "acme", **more: Any) -> Purchase:
    return Purchase(account, "k1", job, "m", "openai", "gpt-5", "/v1/chat/completions", **more)


def subject(account: str = "acme") -> str:
    return subjects.credits(account)

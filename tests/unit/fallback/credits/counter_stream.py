"""The broker's counter stream in memory: dedupes, delivers, and fails as a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from fallback.credits import entries
from fallback.credits.entries import Entry, Usage
from schemas import subjects
from schemas.bus import BusError, Message
from tests.unit import fakes
from tests.unit.fakes import FakeBus

START = 1_800_000_000.0


@dataclass
class Call:
    """A message on its way to the broker; `answer` is what its sender waits for."""

    bus: CounterBus
    subject: str
    headers: dict[str, str]
    answer: asyncio.Future[dict[str, Any]]


@dataclass
class Consumer:
    bus: CounterBus
    inbox: str
    next: int
    subject: str
    sent: int = 0


@dataclass
class Counters:
    """`now` is the broker's clock; ids are remembered for ever."""

    messages: list[tuple[str, dict[str, str], int, float]] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    consumers: list[Consumer] = field(default_factory=list)
    now: float = START
    parsed: list[Entry] = field(default_factory=list)

    def write(self, subject: str, headers: dict[str, str]) -> dict[str, Any]:
        id = headers[entries.ID]
        if id in self.ids:
            return {"seq": self.ids[id], "duplicate": True}
        value = self.values.get(subject, 0) + int(headers[entries.INCREMENT])
        self.values[subject] = value
        self.messages.append((subject, headers, value, self.now))
        self.ids[id] = len(self.messages)
        for consumer in self.consumers:
            self.push(consumer)
        return {"seq": len(self.messages), "val": str(value)}

    def message(self, seq: int, reply: str = "") -> Message:
        subject, headers, value, _ = self.messages[seq - 1]
        return fakes.message(subject, orjson.dumps({"val": str(value)}), reply, headers)

    def delivery(self, seq: int, pending: int = 0) -> Message:
        ns = int(self.messages[seq - 1][3] * 1e9)
        return self.message(seq, f"$JS.ACK.CREDITS.c.1.{seq}.{seq}.{ns}.{pending}")

    def entries(self) -> list[Entry]:
        for seq in range(len(self.parsed) + 1, len(self.messages) + 1):
            self.parsed.append(entries.parse(self.delivery(seq)))
        return self.parsed

    def matching(self, consumer: Consumer) -> list[int]:
        return [
            seq
            for seq in range(consumer.next, len(self.messages) + 1)
            if consumer.subject in ("", self.messages[seq - 1][0])
        ]

    def push(self, consumer: Consumer, count: int = 2**31) -> None:
        """Deliver what is new to a consumer, unless its connection holds it back."""
        if consumer.bus.held and count == 2**31:
            return
        due = self.matching(consumer)
        for at, seq in enumerate(due[:count]):
            consumer.next = seq + 1
            consumer.bus.deliver_to(consumer.inbox, self.delivery(seq, len(due) - at - 1))


class CounterBus(FakeBus):
    """`held`: entries come only when `flow` says so; `gated`: what is stored waits in `calls` for
    the test; `away`: nothing is answered."""

    def __init__(self, counters: Counters, name: str = "one") -> None:
        super().__init__(f"_L.{name}")
        self.counters = counters
        self.held = self.gated = self.away = False
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

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 2.0) -> Message:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        wanted = subject.removeprefix("$JS.API.DIRECT.GET.CREDITS.")
        for seq in range(len(self.counters.messages), 0, -1):
            if self.counters.messages[seq - 1][0] == wanted:
                found = self.counters.message(seq)
                headers = {**(found.headers or {}), "Nats-Sequence": str(seq)}
                return fakes.message(subject, found.data, "", headers)
        return fakes.message(subject, b"", "", {"Status": "404"})

    async def api(self, verb: str, body: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        self.api_calls.append((verb, body))
        if verb.startswith("CONSUMER.CREATE"):
            return self._consume(body["config"])
        state = {"last_seq": len(self.counters.messages)}
        stamp = datetime.fromtimestamp(self.counters.now, UTC).isoformat()
        return {"config": {}, "state": state, "ts": stamp}

    def _consume(self, config: dict[str, Any]) -> dict[str, Any]:
        first = 1
        if config["deliver_policy"] == "by_start_sequence":
            first = config["opt_start_seq"]
        elif config["deliver_policy"] == "by_start_time":
            since = datetime.fromisoformat(config["opt_start_time"]).timestamp()
            stamps = [message[3] for message in self.counters.messages]
            first = next((at + 1 for at, each in enumerate(stamps) if each >= since), 2**40)
            first = min(first, len(stamps) + 1)
        made = Consumer(self, config["deliver_subject"], first, config.get("filter_subject", ""))
        self.counters.consumers.append(made)
        pending = len(self.counters.matching(made))
        asyncio.get_running_loop().call_soon(self.counters.push, made)
        return {"num_pending": pending, "delivered": {"consumer_seq": 0}}

    def deliver_to(self, inbox: str, sent: Message) -> None:
        for subscription in list(self.subscriptions):
            if subscription.subject == inbox:
                subscription.handler(sent)

    def flow(self, count: int) -> None:
        """Let so many entries through to each consumer of this connection."""
        for consumer in self.counters.consumers:
            if consumer.bus is self:
                self.counters.push(consumer, count)

    def status(self, headers: dict[str, str], reply: str = "") -> None:
        """What the broker says besides entries, to every consumer here."""
        for subscription in list(self.subscriptions):
            subscription.handler(fakes.message(subscription.subject, b"", reply, headers))


def usage(job: str, account: str = "acme", **more: Any) -> Usage:
    return Usage(account, "k1", job, "m", "openai", "gpt-5", "/v1/chat/completions", **more)


def subject(account: str = "acme") -> str:
    return subjects.credits(account)

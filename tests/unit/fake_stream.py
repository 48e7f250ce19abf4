"""A stream of the broker in memory, and the connections of those who read it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from schemas.bus import BusError, Message
from tests.unit import fakes
from tests.unit.fakes import FakeBus

START = 1_800_000_000.0
ENDLESS = 2**31


class Stored(NamedTuple):
    subject: str
    data: bytes
    headers: dict[str, str]
    at: float


@dataclass
class Consumer:
    """`first`, `next`: the first sequence that it sends, and that it has not sent. `wanted`: how
    many it may send before it is asked again; one that pushes is not asked."""

    bus: StreamBus
    name: str
    inbox: str
    first: int
    next: int
    subject: str
    wanted: int


@dataclass
class FakeStream:
    """`now` is the broker's clock; nothing is ever deleted."""

    name: str = "CREDITS"
    messages: list[Stored] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    now: float = START

    def add(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> int:
        """Store a message and hand it to those who wait for it; its sequence."""
        self.messages.append(Stored(subject, data, headers or {}, self.now))
        for consumer in list(self.consumers):
            self.push(consumer)
        return len(self.messages)

    def message(self, seq: int, reply: str = "") -> Message:
        stored = self.messages[seq - 1]
        return fakes.message(stored.subject, stored.data, reply, stored.headers)

    def delivery(self, seq: int, pending: int = 0, number: int = 0) -> Message:
        """`number`: how many its consumer has sent with it; 0: one for each in the stream."""
        ns = int(self.messages[seq - 1].at * 1e9)
        return self.message(seq, f"$JS.ACK.{self.name}.c.1.{seq}.{number or seq}.{ns}.{pending}")

    def due(self, consumer: Consumer) -> list[int]:
        """Sequences that it has not sent yet."""
        return self._of(consumer, consumer.next, len(self.messages))

    def _of(self, consumer: Consumer, first: int, last: int) -> list[int]:
        """Sequences that it sends."""
        return [
            seq
            for seq in range(first, last + 1)
            if consumer.subject in ("", self.messages[seq - 1].subject)
        ]

    def push(self, consumer: Consumer, count: int = ENDLESS) -> None:
        """Send what is due, unless its connection holds it back."""
        if consumer.bus.held and count == ENDLESS:
            return
        due = self.due(consumer)
        for at, seq in enumerate(due[: min(count, consumer.wanted)]):
            consumer.next = seq + 1
            consumer.wanted -= 1
            number = len(self._of(consumer, consumer.first, seq))
            sent = self.delivery(seq, len(due) - at - 1, number)
            consumer.bus.deliver_to(consumer.inbox, sent)

    def ask(self, name: str, inbox: str, batch: int) -> None:
        for consumer in self.consumers:
            if consumer.name == name:
                consumer.inbox, consumer.wanted = inbox, batch
                asyncio.get_running_loop().call_soon(self.push, consumer)

    def consume(self, bus: StreamBus, config: dict[str, Any]) -> dict[str, Any]:
        first = 1
        if config["deliver_policy"] == "by_start_sequence":
            first = config["opt_start_seq"]
        elif config["deliver_policy"] == "by_start_time":
            since = datetime.fromisoformat(config["opt_start_time"]).timestamp()
            later = (at + 1 for at, each in enumerate(self.messages) if each.at >= since)
            first = next(later, len(self.messages) + 1)
        inbox = config.get("deliver_subject", "")
        wanted = ENDLESS if inbox else 0
        subject = config.get("filter_subject", "")
        made = Consumer(bus, config["name"], inbox, first, first, subject, wanted)
        self.consumers.append(made)
        asyncio.get_running_loop().call_soon(self.push, made)
        return {"num_pending": len(self.due(made)), "delivered": {"consumer_seq": 0}}


class StreamBus(FakeBus):
    """`held`: messages come only when `flow` says so; `away`: nothing is answered."""

    def __init__(self, stream: FakeStream, inbox: str = "_L.one") -> None:
        super().__init__(inbox)
        self.stream = stream
        self.held = self.away = False

    def post(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().post(subject, payload, reply, headers)
        if ".MSG.NEXT." in subject:
            self.stream.ask(subject.rpartition(".")[2], reply, orjson.loads(payload)["batch"])

    async def api(self, verb: str, body: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        self.api_calls.append((verb, body))
        if verb.startswith("CONSUMER.CREATE"):
            return self.stream.consume(self, body["config"])
        state = {"last_seq": len(self.stream.messages)}
        stamp = datetime.fromtimestamp(self.stream.now, UTC).isoformat()
        return {"config": {}, "state": state, "ts": stamp}

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 2.0) -> Message:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        wanted = subject.removeprefix(f"$JS.API.DIRECT.GET.{self.stream.name}.")
        for seq in range(len(self.stream.messages), 0, -1):
            if self.stream.messages[seq - 1].subject == wanted:
                found = self.stream.message(seq)
                headers = {**(found.headers or {}), "Nats-Sequence": str(seq)}
                return fakes.message(subject, found.data, "", headers)
        return fakes.message(subject, b"", "", {"Status": "404"})

    def deliver_to(self, inbox: str, sent: Message) -> None:
        for subscription in list(self.subscriptions):
            if subscription.subject == inbox:
                subscription.handler(sent)

    def flow(self, count: int) -> None:
        """Let so many messages through to each consumer of this connection."""
        for consumer in list(self.stream.consumers):
            if consumer.bus is self:
                self.stream.push(consumer, count)

    def status(self, headers: dict[str, str], reply: str = "") -> None:
        """What the broker says besides messages, to every reader here."""
        for subscription in list(self.subscriptions):
            subscription.handler(fakes.message(subscription.subject, b"", reply, headers))

"""The slots of a worker that pulls the jobs of one model from two lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import subjects
from schemas.bus import Message
from schemas.jetstream.pulls import Room
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.consumer import Puller


class Lanes:
    """`lanes`: a letter for each, the interactive one first, as they are subscribed to."""

    def __init__(self, bus: FakeBus, slots: int, lanes: Mapping[str, str]) -> None:
        self.bus = bus
        self.room = Room(slots)
        self.jobs: list[tuple[Any, Message]] = []
        self._letters = lanes
        lane = subjects.INTERACTIVE
        self.interactive = Puller(bus, "m", lane, room=self.room, on_job=self.take, expires=2.0)

    def take(self, source: Any, message: Message) -> None:
        assert self.room.free() > 0
        self.room.take()
        self.jobs.append((source, message))

    def finish(self, *, well: bool = True) -> None:
        """As the runner does it."""
        source, message = self.jobs.pop(0)
        self.room.release()
        if well:
            source.finish(message.reply)
        source.fill()

    def asked(self) -> str:
        """The lanes of the pulls since the last call."""
        posts, self.bus.posts = self.bus.posts, []
        return "".join(
            letter
            for post in posts
            for lane, letter in self._letters.items()
            if post.subject.endswith(f".MSG.NEXT.JOBS.{subjects.consumer('m', lane)}")
            or (lane == subjects.INTERACTIVE and post.payload.startswith(b"+NXT"))
        )

    def deliver(self, lane: str) -> None:
        inbox = self.bus.subscriptions[list(self._letters).index(lane)].subject.replace("*", "1")
        self.bus.deliver(fakes.message(inbox, b"job", fakes.ack()))

"""The slots of a worker that pulls the jobs of one model from two lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from schemas import subjects
from schemas.bus import Message
from schemas.jetstream.idle import PAUSE
from schemas.jetstream.pulls import Room
from tests.unit import fakes
from tests.unit.fakes import FakeBus, Posted
from workers.consumer import Puller


class Timer:
    def __init__(self, seconds: float, call: Callable[[], object]) -> None:
        self.seconds = seconds
        self.call = call
        self.runs = True

    def cancel(self) -> None:
        self.runs = False


class Timers:
    """The event loop's timers, which end when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._timers: list[Timer] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    @property
    def timers(self) -> list[Timer]:
        return [each for each in self._timers if each.runs]

    def pass_by(self, seconds: float) -> None:
        """What was to come within `seconds` comes."""
        due = [each for each in self.timers if each.seconds <= seconds]
        self._timers = [each for each in self.timers if each not in due]
        for each in due:
            if each.runs:
                each.call()

    def _call_later(self, seconds: float, call: Callable[..., object], *about: Any) -> Timer:
        self._timers.append(Timer(seconds, partial(call, *about)))
        return self._timers[-1]


class Lanes:
    """`lanes`: a letter for each, the interactive one first, as they are subscribed to."""

    def __init__(self, bus: FakeBus, clock: Timers, slots: int, lanes: Mapping[str, str]) -> None:
        self.bus = bus
        self.clock = clock
        self.room = Room(slots)
        self.jobs: list[tuple[Any, Message]] = []
        self._letters = lanes
        self._questions: list[str] = []
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

    def is_asked(self) -> bool:
        """Whether a question was sent, that is not answered, whether there are more messages."""
        self._questions += [post.reply for post in self.bus.posts if _is_question(post)]
        self.bus.posts = [post for post in self.bus.posts if not _is_question(post)]
        return bool(self._questions)

    def answer(self, code: str = "404") -> None:
        """As the broker answers these questions: it has no more messages."""
        assert self.is_asked()
        questions, self._questions = self._questions, []
        for inbox in questions:
            self.bus.deliver(fakes.message(inbox, headers={"Status": code}))

    def wait(self) -> None:
        """The lane that has the first choice has no job, which the broker says when it is asked."""
        self.clock.pass_by(PAUSE)
        if self.is_asked():
            self.answer()

    def asked(self) -> str:
        """The lanes of the pulls since the last call."""
        self.is_asked()
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


def _is_question(post: Posted) -> bool:
    return b'"max_bytes":1' in post.payload

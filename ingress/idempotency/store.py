"""Answers in the broker's stream, one subject for each key.

Each message names the sequence of the one before it, and the broker refuses it if another came
first. So exactly one ingress writes an answer, and one that stood still cannot go on writing once
another has taken over.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import StrEnum
from typing import NamedTuple

from schemas import subjects
from schemas.bus import ApiError, Bus, Message
from schemas.jetstream import reading, streams
from schemas.jetstream.streams import AFTER, MOVED_ON

_PART = "Headrace-Part"


class Part(StrEnum):
    """What a message holds. OPEN: the digest of the request; its sender writes the answer from now
    on. HEAD: status and headers as JSON. BODY: whole events, or bytes of a document. STILL: nothing
    yet, but the sender lives. BROKEN: the answer ended before its time. END: it is whole."""

    OPEN = "open"
    HEAD = "head"
    BODY = "body"
    STILL = "still"
    BROKEN = "broken"
    END = "end"


class Stored(NamedTuple):
    """One message, and its place in the stream."""

    place: int
    part: Part
    data: bytes


class Overtaken(Exception):
    """Another ingress writes this answer."""


class AnswerStore:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._writer = secrets.token_hex(4)

    async def append(self, name: str, after: int, part: Part, data: bytes = b"") -> int:
        """Write the next message of the answer `name`, and return its place. `after`: the place of
        the last one, 0 if there is none. Raises Overtaken; BusError, and the same call again does
        no harm then."""
        headers = {_PART: part, AFTER: str(after), "Nats-Msg-Id": f"{self._writer}:{name}:{after}"}
        try:
            told = await self._bus.store(subjects.answer_to(name), headers, data)
        except ApiError as fault:
            if fault.code == MOVED_ON:
                raise Overtaken(name) from None
            raise
        return int(told["seq"])

    async def read(self, name: str, after: int) -> AsyncGenerator[Stored, None]:
        """The messages behind the place `after`, oldest first. Raises BusError."""
        subject = subjects.answer_to(name)
        # Most looks find nothing new: one question tells so, and no consumer has to be made.
        newest = await streams.newest(self._bus, subjects.ANSWERS_STREAM, subject, 2.0)
        if newest is None or newest[0] <= after:
            return
        stored = reading.read(self._bus, subjects.ANSWERS_STREAM, subject=subject, after=after)
        async with aclosing(stored) as messages:
            async for message in messages:
                yield _stored(message)


def _stored(message: Message) -> Stored:
    place, _ = subjects.place_of(message.reply)
    part = Part((message.headers or {}).get(_PART, Part.STILL))
    return Stored(place, part, message.data)

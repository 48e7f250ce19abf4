"""Several choices (`n`) from engines that give one at a time: a job for each, joined into one.

Each job is the request with ``n: 1``. If the request has a `seed`, each job gets another one
(`seeds`), as llama-server does for its own choices: with the same seed all would be the same. If
one job fails, the request fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingress.answer import headers
from ingress.jobs.state import Received
from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.api import piecewise, sse
from schemas.api.base import NO_ANSWER, Join
from schemas.api.piecewise_write import dump, joined
from schemas.errors import HeadraceError
from schemas.frames import End, Start

_ANY = (-1, 2**32 - 1)
"""Seeds that mean "draw one" to llama-server, and so to Ollama."""
_LAST = (2**31 - 1, 2**32 - 2, 2**63 - 1, 2**64 - 1)
"""The last seeds of engines that keep them in 31, 32, 63 or 64 bits."""
_DOCUMENT = Start(200, "application/json")
_STREAM = Start(200, "text/event-stream")


async def bodies(asked: Mapping[str, Any], copies: int, room: int) -> list[bytes]:
    """The requests of the single jobs. They are the same unless there is a seed. Raises
    BodyTooLarge if different ones have more than `room` bytes in all."""
    one = {**asked, "n": 1}
    seed, body = asked.get("seed"), await dump(one)
    if seed is None or seed in _ANY:
        return [body] * copies  # one object, however many jobs have it
    if len(body) * copies > room:
        why = f"With a seed for each of its {copies} choices it has more than {room} bytes."
        raise errors.BodyTooLarge(why, param="n")
    return [await dump({**one, "seed": each}) for each in seeds(seed, copies)]


def seeds(seed: int, count: int) -> list[int]:
    """`count` seeds, the given one first. The others count up from it, or down if an engine might
    not have the higher ones. A seed that means "draw one" is repeated."""
    if seed in _ANY:
        return [seed] * count
    end = seed + count - 1
    # Down also from a negative seed, so that none of its successors is -1, which means "draw one".
    back = seed - count + 1 >= -(2**63) and (seed < 0 or any(seed <= last < end for last in _LAST))
    return [seed - index if back else seed + index for index in range(count)]


class Joined:
    """The answers of several jobs of one request, with the attributes that `Received` has for one.

    `said`: the head of the answer. If it does not name all who answer and what that costs, comments
    before the end of the stream do.
    """

    def __init__(self, tickets: Sequence[Ticket], join: Join, said: Mapping[str, str]) -> None:
        self._tickets = tickets
        self._parts = [ticket.received for ticket in tickets]
        self._join = join
        self._said = said
        self._streams = tickets[0].job.stream
        self._joiners = [sse.Joiner() for _ in tickets]
        self._last = [b""] * len(tickets)
        self._ended = False
        self._torn: HeadraceError | None = None
        """Set by an event that cannot be joined."""

    @property
    def head(self) -> Start | None:
        if (spoilt := self._spoilt()) is not None:
            return spoilt.head
        begun = any(map(_is_sound, self._parts))
        return (_STREAM if self._streams else _DOCUMENT) if begun else None

    @property
    def done(self) -> bool:
        torn = self._torn is not None or self._spoilt() is not None
        return torn or all(part.done for part in self._parts)

    @property
    def ended(self) -> End | None:
        """The end of a refusal; None for an answer, as each of its jobs has its own."""
        spoilt = self._spoilt()
        return spoilt.ended if spoilt is not None else None

    @property
    def error(self) -> HeadraceError | None:
        spoilt = self._spoilt()
        return spoilt.error if spoilt is not None else self._torn

    @property
    def owed(self) -> bool:
        spoilt = self._spoilt()
        return spoilt is not None and spoilt.owed

    @property
    def buffered(self) -> int:
        """Bytes that were not taken yet. The end of the stream, which no single job gives, counts
        as one: so it is taken, too."""
        if self._torn is not None:
            return 0
        spoilt = self._spoilt()
        if spoilt is not None and not _is_sound(spoilt):
            return spoilt.buffered
        waiting = sum(part.buffered for part in self._parts if _is_sound(part))
        return waiting or int(self._streams and not self._ended and spoilt is None and self.done)

    def take(self) -> bytes:
        """The next events of a stream, or a refusal."""
        spoilt = self._spoilt()
        if spoilt is not None and not _is_sound(spoilt):
            return spoilt.take()
        # A part without a head of status 200 may be the refusal of an attempt that is given up.
        sound = [job for job, part in enumerate(self._parts) if _is_sound(part)]
        events = b"".join(map(self._events, sound))
        if self.done and self.error is None and not self._ended:
            self._ended = True
            events += self._end()
        return events

    async def document(self) -> bytes:
        """The whole answer. Raises EngineFailed for documents that cannot be joined."""
        try:
            parts = [await joined(part.take_parts()) for part in self._parts]
            return await dump(self._join.document([await piecewise.load(part) for part in parts]))
        except (*NO_ANSWER, piecewise.TooMany) as fault:
            raise _unjoinable(fault) from None

    def _events(self, job: int) -> bytes:
        if not (piece := self._parts[job].take()):
            return b""
        self._last[job] = piece  # `_spoilt` looks for the stream's end in it
        found = sse.objects(self._joiners[job].feed(piece))
        try:
            joined = [self._join.event(job, event) for event in found]
        except NO_ANSWER as fault:
            self._torn = _unjoinable(fault)
            return b""
        return b"".join(sse.dump(event) for event in joined if event is not None)

    def _end(self) -> bytes:
        served = headers.joined([each.received.served_by(each.node) for each in self._tickets])
        late = {name: value for name, value in served.items() if self._said.get(name) != value}
        last = self._join.last()
        return headers.comments(late) + (sse.dump(last) if last else b"") + sse.DONE

    def _spoilt(self) -> Received | None:
        """The job that failed or was refused, and with it the request. A job whose holder was lost
        after the last event has lost nothing of the answer."""
        for part, last in zip(self._parts, self._last, strict=True):
            if part.error is not None and sse.end_of(last) < 0:
                return part
            if part.ended is not None and not _is_sound(part):
                return part
        return None


def _unjoinable(fault: Exception) -> HeadraceError:
    why = f"The answers of several jobs cannot be joined: one is none ({type(fault).__name__})."
    return errors.EngineFailed(why, source="engine")


def _is_sound(part: Received) -> bool:
    return part.head is not None and part.head.status == 200

"""Takes batch jobs for slots that no interactive job wants.

A slot that came free is the interactive lane's first: a pull for it is sent there at once, and the
batch lane is asked only when the broker has said that no interactive job waits (`idle`). So no
batch job is taken before one, however far away or busy the broker is, but where `LOOKS` answers in
a row say that some wait and none comes, or an answer is lost (`LOST`). A slot is idle for 5 ms and
the way to the broker and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from schemas import subjects
from schemas.bus import Bus, Message
from schemas.jetstream.idle import IdleSlots
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import ACK
from workers.consumer import Puller


class BatchSource:
    """Where a batch job came from, for the runner: what asks next is the interactive lane."""

    def __init__(self, bus: Bus, interactive: Puller) -> None:
        self._bus = bus
        self.fill = interactive.pulls.fill

    def finish(self, ack: str) -> None:
        self._bus.post(ack, ACK)


class BatchPullers:
    """Pulls from the batch lanes of the models for which there are `interactive` pullers; these are
    opened and healed before, and have the same priorities. For the other arguments see `Puller`."""

    def __init__(
        self,
        bus: Bus,
        room: Room,
        interactive: Sequence[Puller],
        on_job: Callable[[BatchSource, Message], None],
        expires: float,
    ) -> None:
        self._idle = IdleSlots(room, [each.pulls for each in interactive])
        self._pullers = [
            Puller(
                bus,
                each.model,
                subjects.BATCH,
                room=self._idle,
                on_job=partial(_take, on_job, BatchSource(bus, each)),
                expires=expires,
                priority=each.priority,
                most=1,  # an idle worker asks once for each model, not once for each slot
            )
            for each in interactive
        ]
        self._idle.others += [each.pulls for each in self._pullers]

    async def open(self) -> None:
        """Raises BusError."""
        self._idle.open()
        for puller in self._pullers:
            await puller.open()

    async def close(self) -> None:
        self._idle.close()
        for puller in self._pullers:
            await puller.close()

    def rank(self, model: str, priority: int) -> None:
        """As `Puller` has it."""
        for puller in self._pullers:
            puller.rank(model, priority)

    def heal(self, now: float) -> None:
        for puller in self._pullers:
            puller.heal(now)


def _take(
    on_job: Callable[[BatchSource, Message], None],
    source: BatchSource,
    pulls: Pulls,
    message: Message,
) -> None:
    on_job(source, message)
    pulls.fill()

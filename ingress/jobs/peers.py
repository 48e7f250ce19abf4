"""Several ingresses keep one order: each tells the others whose turn it is in its queues.

If another's next job is before all that wait here, a slot that was claimed here is offered to that
one. It answers the claimant itself and deletes its own message of the job; this one publishes anew
the job that the claim was sent for, as its message has gone with the slot. Without an answer in
`PATIENCE` the slot is for a job of here. What is lost, late or wrong costs order alone: of each job
its own ingress decides who holds it.

An ingress speaks only while jobs wait: every `BEAT`, and at once if another was heard lately. As
long as none was, requests do not enter here, so the first word is said when `CALM` is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from ingress.jobs import gossip
from ingress.jobs.claims import Claims
from ingress.jobs.fair import FairQueue, Queues, untold
from ingress.jobs.gossip import Answer, Offer, Standing
from ingress.jobs.pulse import CALM, until_next
from schemas import frames, metrics, subjects
from schemas.bus import Bus, BusError, Message
from schemas.frames import Frame
from schemas.jobs import CodecError
from schemas.watched import watched

log = structlog.get_logger("peers")

BEAT = 0.1
"""Seconds between two words of a queue in which jobs wait."""
FRESH = 0.35
"""Seconds for which a word is believed: three beats."""
KNOWN = 3.0
"""Seconds for which an ingress that was heard is told of each change."""
PATIENCE = 0.1
"""Seconds in which an offer is answered."""
_MOST = 256
"""Ingresses that are remembered of each queue, and offers that were taken."""


@dataclass(slots=True)
class _Offered:
    """A slot that was offered: for whom the claim was sent, the claim, where the offer went and
    what it said, and what ends the wait."""

    job: str
    frame: Frame
    to: str
    said: bytes
    timer: asyncio.TimerHandle


@dataclass(slots=True)
class _Heard:
    """What was heard of one queue: by ingress, when and what. `served`: who was served here since
    that was told."""

    others: dict[str, tuple[float, Standing]] = field(default_factory=dict)
    served: str = ""
    due: bool = False


class Peers:
    def __init__(self, bus: Bus, ingress: str, queues: Queues, claims: Claims) -> None:
        self._bus = bus
        self._ingress = ingress
        self._queues = queues
        self._claims = claims
        self._heard: dict[tuple[str, str], _Heard] = {}
        self._last = 0.0
        """When another ingress was heard last."""
        self._offered: dict[int, _Offered] = {}
        self._taken: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        """Offers that were taken, by nonce: if its claim is repeated, the taker has to answer."""
        self._beating: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._bus.subscribe(subjects.ALL_STANDINGS, self._hear)
        await self._bus.subscribe(subjects.slots_for(self._ingress), self._told)
        self._beating = asyncio.create_task(watched("peers", self._beat))

    def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    def _join(self) -> None:
        """Another ingress is there: let it be asked."""
        self._queues.changed = self._changed
        self._claims.others = self
        self._queues.elsewhere = self.open_elsewhere

    def _part(self) -> None:
        """No other was heard for long."""
        self._queues.changed = untold
        self._claims.others = None
        self._queues.elsewhere = None
        for name in self._heard:
            self._queues.of(*name).elsewhere = None
        self._heard.clear()

    def open_elsewhere(self, model: str, lane: str) -> int:
        """Jobs of a model and lane that wait or run at others, as far as they have told lately."""
        since = time.monotonic() - FRESH
        heard = self._heard.get((model, lane))
        others = heard.others.values() if heard is not None else ()
        return sum(each.open for at, each in others if at > since)

    def offer(self, queue: FairQueue, job: str, frame: Frame) -> bool:
        """Offer a slot to another ingress, if it is the turn of a job there. Then its claim is not
        to be answered here."""
        now = time.monotonic()
        if now - self._last > FRESH or (head := queue.head()) is None:
            return False
        tag, tenant = head
        best = self._best(queue.name, tenant, now)
        if best is None or (best.start, best.known) >= (tag.start, tag.known):
            return False
        packed = frames.pack(frames.Kind.CLAIM, frame.attempt, frame.nonce, 0, frame.body)
        words = Offer(self._ingress, *queue.name, tenant, tag.start, tag.known, job, packed)
        to, said = subjects.slots_for(best.ingress), words.pack()
        if not self._post(to, said):
            return False
        log.debug("peers.offered", to=best.ingress, head=best.head, job=job)
        timer = asyncio.get_running_loop().call_later(PATIENCE, self._answered, frame.nonce, False)
        self._offered[frame.nonce] = _Offered(job, frame, to, said, timer)
        # Until it says more, it has no other job: the next slot is not offered for the same.
        self._heard[queue.name].others[best.ingress] = now, best._replace(head="")
        return True

    def offer_again(self, nonce: int) -> bool:
        if nonce in self._offered:
            return True
        if not self._taken or (found := self._taken.get(nonce)) is None:
            return False
        return self._post(*found)

    def _best(self, name: tuple[str, str], tenant: str, now: float) -> Standing | None:
        """The ingress whose next job is first, of another tenant than `tenant`."""
        heard = self._heard.get(name)
        if heard is None:
            return None
        fresh = [each for at, each in heard.others.values() if now - at < FRESH]
        heads = [each for each in fresh if each.head not in ("", tenant)]
        return min(heads, key=lambda each: (each.start, each.known), default=None)

    # What is heard

    def _hear(self, message: Message) -> None:
        try:
            name = subjects.parse_standing(message.subject)
            told = gossip.standing(message.data)
        except (CodecError, ValueError) as fault:
            log.warning("peers.undecodable", error=str(fault))
            return
        if told.ingress == self._ingress or not math.isfinite(told.virtual + told.finish):
            return
        self._last = now = time.monotonic()
        if self._claims.others is None:
            self._join()
        others = self._heard.setdefault(name, _Heard()).others
        others.pop(told.ingress, None)
        others[told.ingress] = now, told
        log.debug("peers.heard", of=told.ingress, head=told.head)
        while len(others) > _MOST:
            del others[next(iter(others))]
        self._queues.of(*name).paid(told.served, told.finish, told.virtual)
        self._look_elsewhere(name, now)

    def _look_elsewhere(self, name: tuple[str, str], now: float) -> None:
        best = self._best(name, "", now)
        self._queues.of(*name).elsewhere = None if best is None else best.start

    def _told(self, message: Message) -> None:
        try:
            said = gossip.said(message.data)
            if isinstance(said, Answer):
                self._answered(said.nonce, said.taken)
                return
            (frame,) = frames.unpack(said.frame)
            claims = frame.kind == frames.Kind.CLAIM
            taken = claims and self._claims.take(said, frame, time.monotonic())
        except (CodecError, ValueError) as fault:
            log.warning("peers.undecodable", error=str(fault))
            return
        self._post(subjects.slots_for(said.ingress), Answer(frame.nonce, taken).pack())

    def _answered(self, nonce: int, taken: bool) -> None:
        """The slot is another's, or it was not taken, or nobody answered in time."""
        offered = self._offered.pop(nonce, None)
        if offered is None:
            return  # it was too late: the claimant has an answer, and refuses a second one
        offered.timer.cancel()
        now = time.monotonic()
        if taken:
            metrics.GIVEN.labels("another").inc()
            self._taken[nonce] = offered.to, offered.said
            if len(self._taken) > _MOST:
                self._taken.popitem(last=False)
            self._claims.gone(offered.job, offered.frame, now)
        else:
            self._claims.hear(offered.job, offered.frame, now, alone=True)

    # What is said

    def _changed(self, queue: FairQueue, served: str | None) -> None:
        """A job came to a queue, or one of the tenant `served` left it with a slot."""
        heard = self._heard.setdefault(queue.name, _Heard())
        heard.served = served or heard.served
        if not heard.due:
            heard.due = True
            asyncio.get_running_loop().call_soon(self._say, queue)

    def _say(self, queue: FairQueue) -> None:
        heard = self._heard.setdefault(queue.name, _Heard())
        heard.due, tenant = False, heard.served
        heard.served = ""
        tag, head = queue.head() or (None, "")
        start, known = (tag.start, tag.known) if tag is not None else (0.0, False)
        finish = queue.finish(tenant) if tenant else 0.0
        told = self._ingress, queue.open, queue.virtual
        words = Standing(*told, head, start, known, tenant, finish)
        self._post(subjects.standing(*queue.name), words.pack())

    async def _beat(self) -> None:
        while True:
            busy = self._heard or len(self._queues)
            await asyncio.sleep(until_next(BEAT if busy else CALM))
            if self._claims.others is not None and time.monotonic() - self._last > KNOWN:
                self._part()
            for name in self._heard:
                self._look_elsewhere(name, time.monotonic())
            for _, _, queue in self._queues:
                self._say(queue)

    def _post(self, subject: str, payload: bytes) -> bool:
        with contextlib.suppress(BusError):
            self._bus.post(subject, payload)
            return True
        return False

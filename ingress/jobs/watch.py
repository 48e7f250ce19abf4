"""Watches holders and deadlines: cards, disconnects, silence, and time that is up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import orjson
import structlog

from ingress.jobs.consumers import Consumers
from ingress.jobs.custody import Holder
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.floods import Floods
from ingress.jobs.overflow import Overflow
from ingress.jobs.pulse import calmly, regularly
from ingress.jobs.ticket import Ticket
from ingress.models.catalog import Catalog
from ingress.models.pins import Pin
from ingress.models.ranks import Ranks
from schemas import errors, metrics, nodes, subjects, topology
from schemas.bus import ApiError, Bus, BusDenied, BusError, Message
from schemas.frames import Op, pack_control
from schemas.jetstream import streams
from schemas.jobs import VERSION, CodecError, Job, OtherVersion
from schemas.nodes import FieldsUnknown
from schemas.settings import Settings
from schemas.strangers import Seldom, Strangers
from schemas.watched import watched

log = structlog.get_logger("watch")

SWEEP = 0.05
"""Seconds between two looks at all tickets: the grain of every deadline that is near. Where
none is, a look comes after `CALM` and a half at most."""
NEAR = 0.5
"""Seconds before a deadline from which on looks are as often as that."""
STOOD_STILL = 1.0
"""Seconds between two looks after which this process stood still: it then calls nobody silent, as
what others said meanwhile is not read yet."""
REPEAT = 0.5
"""Seconds after which a job is published again that the broker did not confirm."""
RESTORE_AFTER = 5.0
"""Seconds without a holder after which a job that had one is looked for in the stream."""
LOOK_EACH = 15.0
"""Seconds after which a job that nobody had yet is looked for in the stream: the broker may have
lost it to a damaged file or a step of its clock, or somebody deleted it."""
LOOKS = 64
"""Most jobs that are looked for at once."""
LOSSY = 120.0
"""Seconds for which jobs may get lost after the broker had lost some: it gives their numbers anew,
and acks of the jobs that had them are still to come."""
LOOK_SOON = 2.0
"""Seconds after which a job is looked for meanwhile."""
ENSURE_AGAIN = 60.0
"""Seconds until a stream is tried again for which the broker had no room."""
ENSURE_EACH = 2.0
"""Seconds after which the streams are made sure of again, while jobs find none."""
TELL_EACH = 1.0
"""Least seconds between two lines of the log about the models that are served."""
TOLD = 20
"""Most models that such a line names."""
_WAIT = 0.5
"""Seconds between two questions to a broker that does not answer yet."""
_REVOKED = {why: metrics.REVOKED.labels(why) for why in ("disconnected", "silent")}
"""From nothing to the first one is to be an increase, too."""
_SHOW = pack_control(Op.SHOW, "", 0)
ASK_AFTER = 1.5
"""Seconds of silence after which the holder is asked to repeat what may be lost."""


class Watch:
    def __init__(self, bus: Bus, config: Settings, dispatch: Dispatch, catalog: Catalog) -> None:
        self._bus = bus
        self._config = config
        self._dispatch = dispatch
        self._catalog = catalog
        self._overflow = Overflow(bus, catalog)
        self._consumers = Consumers(bus, config, catalog, self._has_jobs)
        self._strangers = Strangers(log, "watch.refused")
        self._floods = Floods()
        self._seldom = Seldom()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks = 0
        self._back = 0.0
        """When the broker came back last: it may have lost what it had confirmed before."""
        self._left_out: set[str] = set()
        """Streams that the broker had no room for."""
        self._ensured = 0.0
        """When the streams were made sure of last, as a job found none."""
        self._told_models: set[str] = set()
        self._told_edition, self._told = 0, 0.0
        self._lossy = 0.0
        """Until when jobs may get lost, as the broker had lost some."""

    async def open(self) -> None:
        await self._bus.subscribe(subjects.ALL_CARDS, self._card)
        await self._bus.subscribe(subjects.DISCONNECTS, self._worker_disconnected)
        self._bus.on_reconnect(self._reconnected)
        self._spawn(watched("watch", self._sweep))
        self._spawn(watched("consumers", self._consumers.run))
        self._spawn(watched("ranks", Ranks(self._bus, self._catalog).run))

    async def make_streams(self) -> None:
        """Make the streams that are missing: all of them at first, later those that the broker has
        lost. It reserves room for most of them when they are made; those that it has no room for
        are left out until there is some. Without JOBS there is nothing. Raises BusError."""
        jobs, replicas = self._config.jobs, self._config.nats.replicas
        for wanted in topology.streams(jobs, replicas):
            name = wanted["name"]
            try:
                lost = await streams.ensure(self._bus, [wanted])
            except ApiError as fault:
                if name == subjects.JOBS_STREAM or fault.code not in topology.NO_ROOM:
                    raise
                about = {"stream": name, "bytes": wanted["max_bytes"], "error": str(fault)}
                log.warning("watch.no_room", **about)
                self._left_out.add(name)
                asyncio.get_running_loop().call_later(ENSURE_AGAIN, self._make_streams_soon)
                continue
            if lost and self._back and name not in self._left_out:
                log.error("watch.stream_lost", stream=name)
                self._lossy = self._back + LOSSY
            self._left_out.discard(name)

    def _reconnected(self) -> None:
        """The broker may have lost streams, or the end of one, with jobs that it had confirmed."""
        self._catalog.refresh()
        self._consumers.doubt()
        self._back = time.monotonic()
        self._make_streams_soon()

    def _make_streams_soon(self) -> None:
        self._spawn(self._make_streams(self._bus.epoch))

    def _ensure_subjects(self, now: float) -> None:
        """Jobs find no stream: an ingress of an earlier version, which knows other subjects, may
        have changed it while a house is upgraded."""
        if now - self._ensured > ENSURE_EACH:
            self._ensured = now
            self._make_streams_soon()

    async def _make_streams(self, epoch: int) -> None:
        """Until the broker has answered, or another connection does the same."""
        while epoch == self._bus.epoch:
            try:
                await self.make_streams()
                break
            except BusDenied as fault:
                log.error("watch.denied", error=str(fault))
                break
            except BusError as fault:
                log.warning("watch.waiting", error=str(fault))
                await asyncio.sleep(_WAIT)

    def _has_jobs(self, model: str) -> bool:
        return any(ticket.job.model == model for ticket in self._dispatch.tickets.values())

    async def learn(self) -> None:
        """Every model that has a consumer is known, even if nobody serves it now."""
        for model in await self._consumers.learn():
            self._catalog.know(model)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _card(self, message: Message) -> None:
        """A node that speaks another version of the protocol gets no jobs, so it is not listed."""
        sender, holder = subjects.carded(message.subject)
        if not self._floods.admits(sender, holder, len(message.data), time.monotonic()):
            if self._seldom.is_time(f"{sender} floods"):
                log.warning("watch.flooded", node=sender)
            return
        try:
            card = nodes.heard(message.subject, message.data)
        except FieldsUnknown:
            with contextlib.suppress(BusError):  # the next card is answered in the same way
                self._bus.post(subjects.control(holder), _SHOW)
            return
        except CodecError as fault:
            if self._seldom.is_time(sender):
                log.warning("watch.undecodable_card", error=str(fault))
            return
        if card.protocol == VERSION:
            card = self._catalog.granted(card)
            if not self._catalog.hear(card):
                log.warning("watch.no_room_for_card", holder=card.holder, node=card.node)
            else:
                self._consumers.hear(card)
                self._dispatch.affine.hear(card)
        else:
            other = OtherVersion(f"{card.role}'s card", card.protocol)
            self._strangers.refused(card.holder, other, node=card.node, release=card.version)

    def _worker_disconnected(self, message: Message) -> None:
        """A connection ended. A worker that does not come back within the grace time is dead."""
        event = orjson.loads(message.data)
        for holder in self._catalog.at(event["server"]["id"], event["client"]["id"]):
            self._spawn(self._give_up(holder, time.monotonic()))

    async def _give_up(self, holder: str, since: float) -> None:
        await asyncio.sleep(self._config.ingress.grace)
        if self._catalog.heard(holder) > since:
            return
        drained = any(c.holder == holder and c.draining for c in self._catalog.cards())
        (log.info if drained else log.warning)("worker.lost", holder=holder, drained=drained)
        self._catalog.forget(holder)
        self._dispatch.affine.forget(holder)
        now = time.monotonic()
        for ticket in list(self._dispatch.tickets.values()):
            held = ticket.holder
            # What was heard since then came by another connection.
            if held is not None and held.claim.holder == holder and held.heard < since:
                _revoke(ticket, "disconnected", now)

    def _tell_models(self, now: float) -> None:
        """Log which models came and went since the last look. A card may name thousands, and come
        as often as it likes: so this is one line, and not more than one a second."""
        catalog = self._catalog
        if catalog.edition == self._told_edition or now - self._told < TELL_EACH:
            return
        self._told_edition, self._told = catalog.edition, now
        before, self._told_models = self._told_models, {*catalog.models(), *catalog.paid()}
        added, gone = sorted(self._told_models - before), sorted(before - self._told_models)
        if added or gone:
            some = {"added": added[:TOLD], "gone": gone[:TOLD]}
            log.info("models.changed", **some, models=len(self._told_models))

    async def _sweep(self) -> None:
        before, calm = time.monotonic(), False
        while True:
            self._dispatch.calm = calm
            await (calmly(self._dispatch.waiting) if calm else regularly(SWEEP))
            before = self._forgive(before)
            if self._bus.connected:
                for holder in self._catalog.expire():
                    self._dispatch.affine.forget(holder)
                    log.warning("worker.silent", holder=holder)
            else:
                self._catalog.refresh()
            now = time.monotonic()
            self._tell_models(now)
            calm = True
            for ticket in list(self._dispatch.tickets.values()):
                if not ticket.done:
                    # Counted on the monotonic clock: the wall's may be set while a job runs.
                    wall = ticket.job.arrived + (now - ticket.times.queued) * 1000
                    self._check(ticket, now, wall)
                    calm = calm and _is_calm(ticket, now, wall)

    def _forgive(self, before: float) -> float:
        """Forgive all silence if this process stood still since `before`: what the others said is
        still to be read. Returns the time now."""
        now = time.monotonic()
        if now - before > STOOD_STILL:
            log.warning("watch.stood_still", seconds=round(now - before, 1))
            self._catalog.refresh()
            for ticket in self._dispatch.tickets.values():
                ticket.forgive(now)
        return now

    def _check(self, ticket: Ticket, now: float, wall: float) -> None:
        job, times = ticket.job, ticket.times
        unbegun = not times.first
        if wall > job.total_by:
            self._late(ticket, "the whole answer", job.total_by)
        elif unbegun and wall > job.first_by and not self._overflow.overdue_first(ticket, now):
            self._late(ticket, "the first token", job.first_by)
        elif ticket.unconfirmed and now - times.posted > self._config.ingress.broker_wait:
            why = "The broker did not confirm the request. Try again."
            ticket.fail(errors.BrokerUnavailable(why, retry_after=1))
        elif not self._bus.connected:
            ticket.spare(now)  # holders cannot be heard now
        elif ticket.unconfirmed and now - max(times.posted, times.repeated) > REPEAT:
            self._dispatch.confirm(ticket)
            self._ensure_subjects(now)
        elif ticket.holder is not None:
            self._held(ticket, ticket.holder, now)
        else:
            self._waiting(ticket, now)

    def _held(self, ticket: Ticket, holder: Holder, now: float) -> None:
        silence = now - holder.heard
        if silence > self._config.ingress.silence:
            _revoke(ticket, "silent", now)
        elif silence > ASK_AFTER:
            ticket.ask_resend(now)
        elif ticket.terms.hedge_after:
            self._overflow.held(ticket, now)

    def _waiting(self, ticket: Ticket, now: float) -> None:
        job, times = ticket.job, ticket.times
        if job.lane == subjects.BATCH and self._is_due(ticket, now):
            log.info("job.promoted", job=job.id, waited=round(now - times.queued, 1))
            metrics.PROMOTED.labels(metrics.model_label(job.model)).inc()
            ticket.publish_again(now, subjects.INTERACTIVE)
            return
        pin, placement = ticket.terms.pin, self._dispatch.placement
        if pin is not None and (lane := placement.better(ticket, pin, now)):
            self._dispatch.move(ticket, lane, now)
            return
        claim = (job.claim_by - job.arrived) / 1000
        leaves = ticket.terms.may_leave and self._overflow.waiting(ticket, now - times.freed, now)
        if ticket.done:
            return
        if not leaves and now - times.freed > claim and self._is_away(job, pin, claim):
            why = f"No worker serves {job.model} now. Start one, or try again later."
            if pin is not None:
                why = f"{placement.why(job.model, pin)}. Try again later."
            none = errors.NoWorker(why, retry_after=5)
            ticket.fail(ticket.broken or ticket.declined or none)
        elif ticket.postings.newest.sequence and self._is_doubtful(ticket, now):
            ticket.times.seek(now)
            self._spawn(self._look_for(ticket))

    def _is_due(self, ticket: Ticket, now: float) -> bool:
        """Whether a batch job that waits counts as interactive from now on: it has waited long, or
        its client has a part of the answer."""
        claim = (ticket.job.claim_by - ticket.job.arrived) / 1000
        patience = min(claim, self._config.jobs.batch_patience)
        return now - ticket.times.queued > patience or ticket.received.resuming

    def _is_doubtful(self, ticket: Ticket, now: float) -> bool:
        """Whether it is time to look for the message of a job that nobody has."""
        times = ticket.times
        if self._looks >= LOOKS:
            return False
        if max(times.posted, times.sought) < self._back:
            return True
        if times.sought < ticket.postings.newest.expires < now:  # it was another job's
            return True
        patience = RESTORE_AFTER if times.claimed else LOOK_EACH
        if now < self._lossy:
            patience = LOOK_SOON
        return now - max(times.freed, times.sought) > patience

    async def _look_for(self, ticket: Ticket) -> None:
        self._looks += 1
        try:
            now = time.monotonic()
            if await self._dispatch.restore(ticket, passed=now < self._lossy) and self._back:
                self._lossy = max(self._lossy, self._back + LOSSY)
        except BusError:  # nothing is known of the job
            await asyncio.sleep(_WAIT)
            ticket.times.seek(0.0)
        finally:
            self._looks -= 1

    def _is_away(self, job: Job, pin: Pin | None, claim: float) -> bool:
        """Whether nobody who may have the job serves its model, nor is expected to soon."""
        patience, model = max(claim, self._config.ingress.absence), job.model
        if pin is not None:
            return self._dispatch.placement.absent(model, pin) > patience
        return self._catalog.absent(model) > patience and not self._catalog.is_starting(model)

    def _late(self, ticket: Ticket, what: str, by: int) -> None:
        seconds = (by - ticket.job.arrived) / 1000
        held = "at a provider" if ticket.custody.at_provider else f"on {ticket.node}"
        where = held if ticket.holder else "in the queue"
        why = f"No time is left for {what}: {seconds:.1f} s have passed, the request was {where}."
        ticket.fail(errors.DeadlineExceeded(why))


def _is_calm(ticket: Ticket, now: float, wall: float) -> bool:
    """Whether nothing of it can be due within `NEAR`: its answer comes, its holder is heard, and no
    provider has a copy, of which somebody has to see that it is silent."""
    if (holder := ticket.holder) is None or not ticket.times.first:
        return False
    if ticket.custody.hedge is not None:
        return False
    return now - holder.heard < ASK_AFTER - NEAR and ticket.job.total_by - wall > NEAR * 1000


def _revoke(ticket: Ticket, why: str, now: float) -> None:
    if ticket.revoke(why, now):
        _REVOKED[why].inc()

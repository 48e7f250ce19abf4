"""Has a request with a long prompt go where the engine has the beginning of it in its cache.

Only for models that several engines serve: with one there is nothing to choose, and no request
enters here. What engines have is learnt from their answers (`CacheMap`), and told to the other
ingresses a few times a second.

While no job waits and the engine has a free slot, as its card and what was sent there since say,
the job waits in the lane of the engine's node. If nobody has claimed it in `PATIENCE`, it is
published anew for all workers. `affinity_wait` may allow more where reading the prompt anew takes
twice as long: then a full engine will do, and its worker keeps the job until a slot is free.
While jobs wait, nothing is done before a slot comes free: then the job is chosen whose cache the
claimant has, if that is within one turn (`FairQueue.choose`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from ingress.jobs import gossip
from ingress.jobs.claims import Claims
from ingress.jobs.fair import Queues
from ingress.jobs.gossip import Learnt
from ingress.jobs.ticket import Ticket
from ingress.models import marks as prompts
from ingress.models.affinity import CacheMap, Found, Place, short
from ingress.models.engines import Engine, Engines
from ingress.models.locality import ANY, CLOUD
from ingress.models.routes import Plan
from schemas import metrics, subjects
from schemas.bus import Bus, BusError, Message
from schemas.frames import Claim, Role
from schemas.jobs import WANTED_ENGINE, WANTED_FOR, CodecError, engine_of
from schemas.nodes import Card
from schemas.settings import Settings

log = structlog.get_logger("affine")

PATIENCE = 0.05
"""Seconds that a worker has to claim a job for the cache that it has, if no more is worth it."""
BYTES = 4
"""Of a prompt, for each token of it."""
UNDER_WAY = 0.02
"""Seconds that a job is under way to a free slot at most; one that waits for longer is queued. What
waits at other ingresses shows on the cards, as engines without a free slot."""
TELL_EACH = 0.2
"""Seconds between two messages to other ingresses."""
MOST_HEARD = 200
"""Such messages that are read in a second, of all ingresses."""
LONGEST = 2**20
"""Bytes of the longest request that is looked at: that takes half a millisecond."""
_LIKE = 0.9
"""What has so much of what another has counts as much."""


@dataclass(slots=True)
class Trail:
    """What is known of one prompt. `size`: its bytes. `lane`: that of the node where it is to go,
    "" if to any; `place`: the engine there, which has `patience` seconds to claim it."""

    marks: Sequence[int]
    size: int
    lane: str = ""
    place: Place | None = None
    patience: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Affine:
    def __init__(
        self,
        bus: Bus,
        ingress: str,
        config: Settings,
        tickets: Mapping[str, Ticket],
        queues: Queues,
        claims: Claims,
    ) -> None:
        edge = config.ingress
        self.engines = Engines()
        self.shared = self.engines.shared
        """The models that several engines serve, with how many."""
        self.least = edge.affinity_least
        """Bytes of the shortest request that is looked at."""
        self._on = edge.affinity
        self._memory = edge.affinity_memory
        self._wait = edge.affinity_wait
        self._bus = bus
        self._ingress = ingress
        self._tickets = tickets
        self._queues = queues
        self._claims = claims
        self._map = CacheMap()
        self._trails: dict[str, Trail] = {}
        """By job."""
        self._news: list[Learnt] = []
        """What the others are to be told."""
        self._heard = 0, 0
        """A second, and the messages of others in it."""

    async def open(self) -> None:
        if self._on:
            await self._bus.subscribe(subjects.CACHES, self._hear)

    # What engines there are

    def hear(self, card: Card) -> None:
        if self._on and card.role == Role.WORKER:
            self._leave(self.engines.hear(card))

    def forget(self, holder: str) -> None:
        """The process is gone."""
        self._leave(self.engines.forget(holder))

    def _leave(self, places: list[Place]) -> None:
        """These engines have nothing any more, and nothing waits for them."""
        for place in places:
            self._map.leave(place)
        for job, trail in [*self._trails.items()] if places else ():
            if trail.timer is not None and trail.place in places:
                self._late(job)
        self.shared = self.engines.shared
        self._claims.caches = self if self.shared else None
        if not self.shared:
            self._end()

    def _end(self) -> None:
        """There is nothing to choose any more. Jobs that still wait for one engine are everybody's
        from now on: nobody would take them away from it later."""
        for job, trail in [*self._trails.items()]:
            if trail.timer is not None:
                self._late(job)
        self._trails.clear()
        self.engines.clear()

    # Where a job goes

    def trail(self, path: str, asked: Mapping[str, Any], model: str) -> Trail | None:
        """Of the prompt of a request at an endpoint; None if nothing of it would be kept."""
        marks = prompts.of(path, asked, model)
        return Trail(marks, prompts.length(marks[-1])) if marks else None

    def send(self, plan: Plan, trail: Trail) -> None:
        """Have the job go to an engine that has the most of its prompt, if a slot is free there or
        is worth a wait. If others wait, that is looked at when a slot comes free."""
        if plan.model not in self.shared:  # no more, since its prompt was looked at
            return
        since = self._queues.of(plan.model, subjects.INTERACTIVE).since()
        if since is not None and time.monotonic() - since > UNDER_WAY:
            return
        if plan.reach == CLOUD or plan.claim <= PATIENCE:  # no worker, or none is waited for
            return
        if (best := self._best(plan.model, trail)) and (engine := self.engines.get(best.place)):
            trail.lane, trail.place = subjects.pinned(engine.node), best.place
            trail.patience = self._patience(plan.model, best)
            if plan.reach == ANY:  # else nobody takes it away when that time is up
                trail.patience = min(trail.patience, plan.claim / 2)

    def nodes(self, model: str, trail: Trail) -> list[str]:
        """The nodes that have the beginning of a prompt, those with the most of it first."""
        found = [self.engines.get(each.place) for each in self._likely(model, trail)]
        return [engine.node for engine in found if engine is not None]

    def follow(self, ticket: Ticket, trail: Trail) -> None:
        """The job is about to be published."""
        job = ticket.job
        if job.model not in self.shared:  # then nobody would forget it
            return
        self._trails[job.id] = trail
        if trail.place is not None:
            self.engines.move(job.id, trail.place)
            loop = asyncio.get_running_loop()
            trail.timer = loop.call_later(trail.patience, self._late, job.id)

    def headers(self, job: str) -> dict[str, str]:
        """What the message of a job that goes to a node says of the engine."""
        trail = self._trails.get(job)
        if trail is None or trail.place is None:
            return {}
        wanted = {WANTED_ENGINE: engine_of(*trail.place)}
        if trail.patience > PATIENCE:
            wanted[WANTED_FOR] = str(int(trail.patience * 1000))
        return wanted

    def has(self, job: str, claim: Claim) -> bool:
        """Whether a claimant has the cache of a job that waits."""
        trail = self._trails.get(job)
        if trail is None:
            return False
        found = self._map.at(_place(claim), trail.marks)
        return found is not None and _is_enough(found, trail)

    def _best(self, model: str, trail: Trail) -> Found | None:
        """Of those with about the most of the prompt, the one with the most free slots; if none has
        a free one, with the fewest jobs that wait for one, if it is worth it."""
        likely = self._likely(model, trail)
        found = [each for each in likely if self.engines.free(each.place) > 0]
        if not found and self._wait > PATIENCE:
            found = [each for each in likely if self._is_worth_a_wait(model, each)]
        if not found:
            return None
        like = [each for each in found if each.size >= _LIKE * found[0].size]
        return max(like, key=lambda each: self.engines.free(each.place))

    def _patience(self, model: str, found: Found) -> float:
        """How long the job is to wait for what an engine has of its prompt, in seconds: no longer
        than half of what it takes to read that anew."""
        engine = self.engines.get(found.place)
        reading = found.size / BYTES * engine.paces.get(model, 0) / 1e6 if engine else 0.0
        return max(PATIENCE, min(self._wait, reading / 2))

    def _is_worth_a_wait(self, model: str, found: Found) -> bool:
        """Whether to wait for a slot of a full engine. As many as it has slots may."""
        engine = self.engines.get(found.place)
        if engine is None or self.engines.free(found.place) <= -engine.slots:
            return False
        return self._patience(model, found) > PATIENCE

    def _likely(self, model: str, trail: Trail) -> list[Found]:
        return [each for each in self._map.find(trail.marks) if _is_enough(each, trail)]

    def _late(self, job: str) -> None:
        """Nobody took the job there: all may have it."""
        ticket, trail = self._tickets.get(job), self._trails.get(job)
        if trail is not None:
            _stop(trail)
            trail.place = None
        if ticket is None or ticket.done or ticket.holder is not None:
            return
        if ticket.lane == ticket.job.lane:
            return
        metrics.AFFINITY_DECLINED.labels(metrics.model_label(ticket.job.model)).inc()
        log.debug("job.not_taken", job=job, node=subjects.node_of(ticket.job.lane))
        self.engines.move(job, None)
        ticket.publish_again(time.monotonic())

    # What becomes of it

    def served(self, ticket: Ticket) -> None:
        """Somebody has the job."""
        holder = ticket.holder
        if holder is None or ticket.job.model not in self.shared:
            return
        by_worker = not holder.claim.by_provider
        place = _place(holder.claim) if by_worker else None
        self.engines.move(ticket.job.id, place, runs=True)
        if (trail := self._trails.get(ticket.job.id)) is not None:
            _stop(trail)

    def lost(self, job: str) -> None:
        self.engines.move(job, None)

    def closed(self, ticket: Ticket) -> None:
        self.engines.move(ticket.job.id, None)
        trail = self._trails.pop(ticket.job.id, None)
        if trail is None:
            return
        _stop(trail)
        if ticket.received.ended is not None and ticket.node is not None:
            self._learn(ticket, trail)

    def _learn(self, ticket: Ticket, trail: Trail) -> None:
        latest, end, model = ticket.custody.latest, ticket.received.ended, ticket.job.model
        head = ticket.received.head
        assert latest is not None
        assert end is not None
        place = _place(latest)
        engine = self.engines.get(place)
        if engine is None or model not in engine.models or head is None or head.status != 200:
            return
        read = end.prompt_tokens if end.prompt_tokens > 0 else trail.size // BYTES
        engine.tells = engine.tells or end.cached_tokens > 0
        self._judge(model, trail, place, read, end.cached_tokens if engine.tells else -1)
        tokens = read + max(0, end.completion_tokens)
        self._map.learn(place, trail.marks, tokens, self._room(engine, model))
        self._tell(Learnt(*place, tokens, short(trail.marks)))

    def _judge(self, model: str, trail: Trail, place: Place, read: int, cached: int) -> None:
        """Count how it went. What the engine has forgotten is forgotten here."""
        found = self._map.at(place, trail.marks)
        if found is not None and _is_enough(found, trail):
            expected = read * found.size / trail.size
            outcome = "hit" if cached < 0 or 2 * cached >= expected else "forgotten"
            if outcome == "forgotten":
                self._map.lacks(place, trail.marks)
        else:
            outcome = "elsewhere" if self._likely(model, trail) else "miss"
        metrics.AFFINITY.labels(metrics.model_label(model), outcome).inc()

    def _room(self, engine: Engine, model: str) -> int:
        return round(engine.slots * engine.models[model] * self._memory)

    # Other ingresses

    def _tell(self, learnt: Learnt) -> None:
        if not self._news:
            asyncio.get_running_loop().call_later(TELL_EACH, self._say)
        if len(self._news) < gossip.MOST_LEARNT:  # else it costs the others a miss
            self._news.append(learnt)

    def _say(self) -> None:
        news, self._news = self._news, []
        with contextlib.suppress(BusError):
            self._bus.post(subjects.CACHES, gossip.pack_learnt(self._ingress, news))

    def _hear(self, message: Message) -> None:
        now = int(time.monotonic())
        self._heard = (now, self._heard[1] + 1) if self._heard[0] == now else (now, 1)
        if self._heard[1] > MOST_HEARD or not self.shared:
            return
        try:
            ingress, news = gossip.learnt(message.data)
        except CodecError as fault:
            log.warning("affine.undecodable", error=str(fault))
            return
        if ingress == self._ingress:
            return
        log.debug("affine.heard", of=ingress, prompts=len(news))
        for holder, name, tokens, marks in news:
            if (engine := self.engines.get(place := Place(holder, name))) is not None:
                model = max(engine.models, key=engine.models.__getitem__)
                self._map.learn(place, marks, tokens, self._room(engine, model))


def _place(claim: Claim) -> Place:
    return Place(claim.holder, claim.engine)


def _is_enough(found: Found, trail: Trail) -> bool:
    """Whether it has half of the prompt, or the turn before with its answer."""
    return found.ended or 2 * found.size >= trail.size


def _stop(trail: Trail) -> None:
    if trail.timer is not None:
        trail.timer.cancel()
        trail.timer = None

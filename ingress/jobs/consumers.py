"""Makes the consumers of the models that cards show. Members pull from them and can make none: one
that pushes, or leaves out the bodies of jobs, would be worth a lot to a stolen login."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from ingress.models.catalog import Catalog
from schemas import subjects, topology
from schemas.bus import Bus, BusDenied, BusError
from schemas.frames import Role
from schemas.jetstream import streams
from schemas.nodes import Card
from schemas.settings import Settings

log = structlog.get_logger("consumers")

LOOK_EACH = 15.0
"""Seconds between two looks at what is there: somebody may have deleted a consumer, and the broker
drops those that nobody pulls from for long."""
_RETRY = 0.5
"""Seconds between two tries, while the broker is away or has no stream."""

Queue = tuple[str, str]
"""A model and a lane."""


def of(card: Card) -> list[Queue]:
    """The queues that a member pulls from."""
    if card.role == Role.FALLBACK:  # also the workers' lane, of which it takes overdue jobs
        lanes = [subjects.CLOUD, subjects.INTERACTIVE]
    else:
        lanes = [subjects.INTERACTIVE, subjects.BATCH, subjects.pinned(card.node)]
    return [(model.id, lane) for model in card.models for lane in lanes]


def _names_of(model: str) -> set[str]:
    """The names that consumers of a model may have, but for those of nodes."""
    return {subjects.consumer(model, lane) for lane in subjects.LANES}


class Consumers:
    def __init__(
        self, bus: Bus, config: Settings, catalog: Catalog, in_use: Callable[[str], bool]
    ) -> None:
        """`in_use`: whether a request for a model is here."""
        self._bus = bus
        self._in_use = in_use
        self._forget = config.ingress.forget_models
        self._ack_wait = config.jobs.ack_wait
        self._replicas = config.nats.replicas
        self._catalog = catalog
        self._made: set[Queue] = set()
        self._wanted: dict[Queue, None] = {}
        """In the order in which they were asked for."""
        self._news = asyncio.Event()

    def hear(self, card: Card) -> None:
        self._want(of(card))

    def doubt(self) -> None:
        """The broker may have lost them."""
        self._made.clear()
        for card in self._catalog.cards():
            self.hear(card)

    async def learn(self) -> list[str]:
        """The models that have one. Raises BusError."""
        found = await streams.consumers(self._bus, subjects.JOBS_STREAM)
        told = [(each["config"].get("metadata") or {}).get("headrace.model") for each in found]
        return [model for model in told if model]

    async def run(self) -> None:
        """Make what is wanted, and look now and then whether it is there."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EACH):
                    await self._news.wait()
            except TimeoutError:
                await self._look()
            await self._make_all()

    def _want(self, queues: Iterable[Queue]) -> None:
        for queue in queues:
            if queue not in self._made and queue not in self._wanted:
                self._wanted[queue] = None
                self._news.set()

    async def _make_all(self) -> None:
        said = False
        while self._wanted:
            queue = next(iter(self._wanted))
            config = topology.consumer(*queue, self._ack_wait, self._replicas, self._forget)
            try:
                await streams.ensure_consumer(self._bus, subjects.JOBS_STREAM, config)
            except BusDenied:
                raise
            except BusError as fault:
                if not said:  # one line in the log, not one for each try
                    log.warning("consumer.waiting", model=queue[0], error=str(fault))
                    said = True
                # Behind the others: this one alone may be what the broker does not take.
                self._wanted.pop(queue, None)
                if any(queue in of(card) for card in self._catalog.cards()):
                    self._wanted[queue] = None
                await asyncio.sleep(_RETRY)
            else:
                self._wanted.pop(queue, None)
                self._made.add(queue)
        self._news.clear()

    async def _look(self) -> None:
        """Forget what is not there any more, so that it is made anew for those who serve it; and
        models that have none and that nobody serves: the broker drops the consumer of one that was
        away for long, and `headrace model forget` does."""
        shown = {queue for card in self._catalog.cards() for queue in of(card)}
        try:
            names = await streams.consumer_names(self._bus, subjects.JOBS_STREAM)
        except BusError:  # what is there is not known
            return
        there = set(names)
        self._made = {queue for queue in shown if subjects.consumer(*queue) in there}
        self._want(shown)
        for model in self._catalog.absentees():
            if not self._in_use(model) and not there & _names_of(model):
                self._catalog.forget_model(model)
                log.info("consumers.model_forgotten", model=model)

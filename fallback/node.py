"""A fallback process: a worker whose engines are paid cloud APIs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import structlog

from fallback.cloud_slots import CloudSlots
from fallback.cost import price_list
from fallback.cost.price_list import Prices
from fallback.credits import admin, witness
from fallback.credits.billing import Billing
from fallback.credits.faults import LedgerError
from fallback.credits.gauges import CreditGauges
from fallback.credits.grants import Desk
from fallback.credits.ledger import Ledger
from fallback.credits.running_down import RunningDown
from fallback.engine import CloudEngine
from fallback.policy import CloudRoutes
from fallback.providers import make
from fallback.providers.base import ProviderFault
from schemas import bus as buses
from schemas import nodes, subjects
from schemas.bus import Bus, BusError, Message
from schemas.frames import Role
from schemas.identity import Identity
from schemas.jetstream.alarm import Alarm
from schemas.jobs import CodecError
from schemas.settings import Price, Settings, SettingsError
from schemas.watched import watched
from workers import metrics_page
from workers.engines.base import EngineFault
from workers.member import Member

log = structlog.get_logger("fallback")

DEAD_AFTER = 10.0
"""Seconds without a card after which another fallback counts as dead. A live one sends a card each
second."""


MOST_FALLBACKS = 4096
"""Fallbacks whose cards are remembered: their names come from the wire."""


class Fallback(Member):
    """Raises SettingsError for a model in a route that has no price."""

    role: ClassVar[Role] = Role.FALLBACK
    inbox: ClassVar[str] = subjects.INBOX_FALLBACK

    def __init__(
        self,
        config: Settings,
        read: Callable[[], Settings] | None = None,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(config, read, identity)
        self._routes = CloudRoutes(config.route)
        # A provider that no route names needs no key.
        used = {name for route in self._routes.all() for name, _ in route.provider_models}
        self._providers = [
            (make(each), each.concurrency) for each in config.providers if each.name in used
        ]
        self._prices = _priced(config)
        self._heard: dict[str, float] = {}
        self._since = time.monotonic()
        self._sweeping: list[asyncio.Task[None]] = []
        self._questions: set[asyncio.Task[None]] = set()

    def _buses(self) -> list[Bus]:
        return [self._bus, self._ledger_bus]

    def _names(self) -> str:
        return ",".join(provider.name for provider, _ in self._providers)

    def _metrics(self) -> metrics_page.Section:
        return self._config.fallback

    async def _open_slots(self) -> None:
        config = self._config
        self._ledger_bus = await buses.connect(
            config.ledger.beside(config.nats),
            f"headrace-ledger/{self._node}",
            f"{subjects.INBOX_LEDGER}.{self._holder}",
        )
        # Before the ledger reads it: a journal that lost its end would show too much money.
        await witness.check(self._ledger_bus, config.nats.replicas)
        self._ledger = Ledger(self._ledger_bus, replicas=config.nats.replicas, alive=self._alive)
        await self._ledger.open()
        self._desk = Desk(self._ledger, config.fallback.grants_daily)
        await self._bus.subscribe(subjects.ALL_CARDS, self._hear)
        reads = partial(self._asked, self._bus, admin.Reader(self._ledger))
        await self._bus.subscribe(subjects.ASK_LEDGER, reads, "ledger")
        grants = partial(self._asked, self._ledger_bus, self._desk)
        await self._ledger_bus.subscribe(subjects.ASK_GRANT, grants, "ledger")
        self._gauges = CreditGauges(self._ledger)
        self._alarm = Alarm(self._bus, config.alerts.thresholds)
        self._running_down = RunningDown(self._ledger, self._alarm)
        about = self._prices, config.fallback.currency, self._holder
        look, lowest = self._running_down.look, self._alarm.lowest
        billing = Billing(self._ledger, *about, spends=look, lowest=lowest)
        engine = CloudEngine(self._providers, self._routes, self._prices, billing, config.fallback)
        engine.telemetry = self._telemetry
        self._cloud = CloudSlots(self._bus, self._runner, engine, self._routes, config)
        try:
            await self._cloud.open()
        except EngineFault as fault:
            raise BusError(fault.message) from None
        self._slots.append(self._cloud)
        # Two, as the gauges wait for the whole journal, and what is owed must not.
        for name, work in (("sweep", self._sweep), ("gauges", self._gauges.open)):
            self._sweeping.append(asyncio.create_task(watched(name, work)))
        self._send_card()  # at once: no ingress sends out a job before it knows of a provider
        log.info("fallback.ready", models=self._routes.models(), providers=self._names())

    def _apply(self, found: Settings) -> set[str]:
        """Keys in files, prices, and routes as long as they lead from the same models to providers
        that are there. A call under way goes on with what it had."""
        prices = _priced(found)
        try:
            self._cloud.engine.renew()
        except ProviderFault as fault:
            raise SettingsError(fault.message) from None
        if found.fallback.currency != self._config.fallback.currency:
            return set()
        if not self._routes.replace(found.route, {each.name for each, _ in self._providers}):
            return set()
        self._prices.clear()
        self._prices.update(prices)
        self._cloud.offer()
        self._send_card()
        return {"route", "prices"}

    async def _close_own(self) -> None:
        for task in self._sweeping:
            task.cancel()
        await self._running_down.close()
        await self._alarm.close()
        await self._ledger.close()
        await self._ledger_bus.close()

    def _hear(self, message: Message) -> None:
        try:
            card = nodes.heard(message.subject, message.data, partly=True)
        except CodecError as fault:
            log.warning("fallback.undecodable_card", error=str(fault))
            return
        if card.role == Role.FALLBACK and (card.holder in self._heard or self._has_room()):
            self._heard[card.holder] = time.monotonic()

    def _has_room(self) -> bool:
        """Whether another fallback can be remembered; those that fell silent long ago are not."""
        if len(self._heard) >= MOST_FALLBACKS:
            now = time.monotonic()
            self._heard = {h: at for h, at in self._heard.items() if now - at < DEAD_AFTER}
        return len(self._heard) < MOST_FALLBACKS

    def _alive(self, holder: str) -> bool:
        """Whether a holder may be at work. True in doubt, as just after the start."""
        last = max(self._heard.get(holder, 0.0), self._since)
        return holder == self._holder or time.monotonic() - last < DEAD_AFTER

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._config.fallback.sweep)
            self._gauges.show()
            if not (self._bus.connected and self._ledger_bus.connected):
                self._since = time.monotonic()  # this process could not hear the others' cards
                continue
            try:
                await self._ledger.sweep()
                await witness.mark(self._ledger_bus)
            except (LedgerError, BusError) as fault:
                log.warning("fallback.not_swept", error=str(fault))

    def _asked(self, bus: Bus, clerk: admin.Clerk, message: Message) -> None:
        task = asyncio.create_task(admin.answer(clerk, bus, message))
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)


def _priced(config: Settings) -> dict[tuple[str, str], Price]:
    """The prices of all models in routes. Raises SettingsError for one without."""
    prices = Prices(config.prices, config.fallback.currency)
    found = dict(prices.of_routes(config.route, config.providers))
    if faults := price_list.check(config.route, found):
        raise SettingsError("\n".join(faults))
    return found

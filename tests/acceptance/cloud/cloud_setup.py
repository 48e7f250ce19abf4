"""A fabric with fallbacks and simulated providers: its tables, its credits, and what was billed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.nats import broker as brokers
from fallback.credits.entries import Balance, Entry, EntryKind
from fallback.credits.ledger import Ledger
from schemas import bus as buses
from schemas import subjects
from schemas.jetstream import reading
from schemas.settings import Nats
from tests.doubles.providers import Provider
from tests.doubles.raw import RawServer
from tests.fabric import PATIENCE, Fabric, Process, fabric, table

ACCOUNT = "tests"
"""Of the fabric's key."""
SECRET = "sk-sim-0123456789abcdef"
INPUT, OUTPUT = 1, 2
"""Micro-units of a token read and written, by the price list of these tests."""


class CloudSetup:
    """`ledger`: the same credits that the fallbacks use, for a test to grant and read. `entered`
    is set by each entry in it, whoever makes it."""

    def __init__(self, made: Fabric, ledger: Ledger, entered: asyncio.Event) -> None:
        self.fabric = made
        self.ledger = ledger
        self._entered = entered
        self.tables = ""
        self.routes: list[str] = []

    def provider(
        self, name: str, sim: Provider | RawServer, kind: str = "compatible", **settings: Any
    ) -> None:
        """A table for a simulator."""
        secret = self.fabric.home / f"{name}.key"
        secret.write_text(SECRET)
        rows = {"name": name, "kind": kind, "url": sim.base_url, "key_file": str(secret)}
        self.tables += table("[providers]", {**rows, **settings})

    def price(self, provider: str, model: str, **prices: float) -> None:
        rows = prices or {"input": INPUT, "output": OUTPUT}
        self.tables += table("[prices]", {"provider": provider, "model": model, **rows})

    def route(self, name: str, providers: Sequence[str], **settings: Any) -> None:
        rows = {"name": name, "providers": list(providers), **settings}
        self.routes.append(table("[route]", rows))

    @property
    def text(self) -> str:
        return self.tables + "".join(self.routes)

    async def ingress(self, config: Mapping[str, Any] | None = None, keys: str = "") -> Process:
        """It waits for nobody who is away, so that only the claim deadline counts."""
        settings = {"ingress.absence": 0, **(config or {})}
        return await self.fabric.ingress(settings, tables=self.text + keys)

    async def fallback(self, config: Mapping[str, Any] | None = None) -> Process:
        return await self.fabric.fallback(self.text, {"fallback.sweep": 1, **(config or {})})

    async def provided(self, model: str) -> None:
        """Wait until the ingress has heard of a provider for the model."""
        url, headers = f"{self.fabric.url}/v1/models/{model}", self.fabric.headers
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self.fabric.session.get(url, headers=headers) as answer:
                    found = await answer.json()
                if found.get("headrace", {}).get("providers"):
                    return
                await asyncio.sleep(0.02)

    async def grant(self, amount: int, account: str = ACCOUNT) -> None:
        await self.ledger.grant(account, amount)

    async def balance(self, account: str = ACCOUNT) -> Balance:
        return await self.ledger.balance(account)

    async def settled(self, available: int, account: str = ACCOUNT) -> None:
        """Wait until nothing is reserved and exactly so much is there."""

        async def so_much() -> bool:
            return await self.balance(account) == Balance(available, 0)

        try:
            await self.until(so_much)
        except TimeoutError:
            raise AssertionError(f"{await self.balance(account)}, not {available}") from None

    async def written(self, kind: EntryKind, count: int = 1) -> None:
        """Wait until there are so many entries of this kind."""

        async def so_many() -> bool:
            return sum(entry.kind is kind for entry in await self.entries()) >= count

        await self.until(so_many)

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is `true`, which is asked again after each entry in the ledger."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._entered.clear()
                if await true():
                    return
                await self._entered.wait()

    async def entries(self, account: str = ACCOUNT) -> list[Entry]:
        return [entry async for entry in self.ledger.history(account)]

    async def charges(self, account: str = ACCOUNT) -> list[Entry]:
        return [entry for entry in await self.entries(account) if entry.kind is EntryKind.CHARGE]


@asynccontextmanager
async def open_cloud(home: Path) -> AsyncIterator[CloudSetup]:
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made, cloud(made) as setup:
            yield setup


@asynccontextmanager
async def cloud(made: Fabric) -> AsyncIterator[CloudSetup]:
    login = {**made.login("ledger"), "url": made.broker.url}
    bus = await buses.connect(Nats.model_validate(login), "test-ledger", "_L.test")
    ledger, entered = Ledger(bus), asyncio.Event()
    await ledger.open()
    follower = reading.Follower(bus, subjects.CREDITS_STREAM, lambda _: entered.set())
    await follower.open(since=0.0, last=0)
    try:
        yield CloudSetup(made, ledger, entered)
    finally:
        await follower.close()
        await ledger.close()
        await bus.close()

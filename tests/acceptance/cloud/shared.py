"""One house for a module: every kind of provider behind routes of its own, and nothing local."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from tests.acceptance.cloud.house import SECRET, House, house
from tests.fabric import KEY
from tests.sim.providers import Anthropic, Cloudflare, Google, OpenAI, Provider
from tests.sim.providers.record import Exchange

ROUTES = {
    "chat": "openai/gpt-4o-mini",
    "text": "openai/gpt-3.5-turbo-instruct",
    "embed": "openai/text-embedding-3-small",
    "draw": "openai/gpt-image-1",
    "hear": "openai/whisper-1",
    "speak": "openai/tts-1",
    "gemini": "google/gemini-2.5-flash",
    "gemini-embed": "google/gemini-embedding-001",
    "nano/banana": "google/gemini-2.5-flash-image",
    "imagen": "google/imagen-4.0-generate-001",
    "llama:edge": "cloudflare/@cf/meta/llama-3.1-8b-instruct",
    "bge": "cloudflare/@cf/baai/bge-base-en-v1.5",
    "claude": "anthropic/claude-haiku-4-5",
}
GRANTED = 100_000_000


@dataclass(slots=True)
class Cloud:
    """`spent`: micro-units charged so far."""

    house: House
    sims: dict[str, Provider]
    client: openai.AsyncOpenAI
    spent: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def sent(self, name: str) -> list[Exchange]:
        """What came to a simulator since the last call, or ever."""
        found = self.sims[name].record.requests[self.seen.get(name, 0) :]
        self.seen[name] = len(self.sims[name].record.requests)
        return found

    async def afresh(self) -> None:
        for name in self.sims:
            self.sent(name)
        while (balance := await self.house.balance()).reserved:
            await asyncio.sleep(0.005)
        self.spent = GRANTED - balance.available

    async def paid(self, headers: Any = None) -> int:
        """What the last answer cost; it is in its head, and gone from the account."""
        available = GRANTED - self.spent
        async with asyncio.timeout(10):
            while (balance := await self.house.balance()).reserved:
                await asyncio.sleep(0.005)
        cost = available - balance.available
        self.spent += cost
        if headers is not None:
            whole, rest = divmod(cost, 1_000_000)
            assert headers["x-headrace-cost"] == f"{whole}.{rest:06d} USD"
        return cost


@asynccontextmanager
async def cloud(home: Path) -> AsyncIterator[Cloud]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(house(home))
        sims: dict[str, Provider] = {
            "openai": OpenAI(key=SECRET),
            "google": Google(key=SECRET),
            "cloudflare": Cloudflare(key=SECRET),
            "anthropic": Anthropic(key=SECRET),
        }
        for name, sim in sims.items():
            await stack.enter_async_context(sim)
            here.provider(name, sim, kind=name, account_id="a1b2")
        here.price("google", "gemini-embedding-001", input=1)
        here.price("cloudflare", "@cf/meta/llama-3.1-8b-instruct", input=1, output=2)
        here.price("openai", "gpt-3.5-turbo-instruct", input=1, output=2)
        for name, where in ROUTES.items():
            here.route(name, [where])
        await here.grant(GRANTED)
        await here.ingress()
        await here.fallback()
        await here.provided("chat")
        client = openai.AsyncOpenAI(
            base_url=f"{here.fabric.url}/v1", api_key=KEY, max_retries=0, timeout=30
        )
        await stack.enter_async_context(client)
        yield Cloud(here, sims, client)

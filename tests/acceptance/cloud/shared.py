"""One fabric for a module: every kind of provider behind routes of its own, and nothing local."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import openai

from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup, open_cloud
from tests.doubles.providers import (
    Anthropic,
    Cloudflare,
    Compatible,
    Exchange,
    Google,
    OpenAI,
    Price,
    Provider,
)
from tests.fabric import KEY

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
    "some": "compatible/some-model",
    "vectors": "compatible/embedder",
}


def _price(**dollars: str) -> Price:
    return Price(**{name: Decimal(amount) for name, amount in dollars.items()})


PRICES = {
    "chat": _price(input="0.15", cached="0.075", output="0.60"),
    "text": _price(input="1", output="2"),
    "embed": _price(input="0.02"),
    "draw": _price(input="10", output="40"),
    "hear": _price(second="0.0001"),
    "speak": _price(characters="15"),
    "gemini": _price(input="0.30", cached="0.03", output="2.50"),
    "gemini-embed": _price(input="1"),
    "nano/banana": _price(input="0.30", image="0.039"),
    "imagen": _price(image="0.04"),
    "llama:edge": _price(input="1", output="2"),
    "bge": _price(input="0.067"),
    "claude": _price(input="1", cached="0.10", output="5"),
    "some": _price(input="3", output="4"),
    "vectors": _price(input="5"),
}
"""By route: those of the list and those of `cloud`, for what simulators count."""
GRANTED = 100_000_000


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def cost(model: str, sent: Exchange) -> int:
    """Micro-units of what the simulator has counted, rounded up as each charge is."""
    exact = sent.used.cost(PRICES[model]) * 1_000_000
    return int(exact.to_integral_value(ROUND_CEILING))


@dataclass(slots=True)
class AllProviders:
    """`spent`: micro-units charged so far."""

    setup: CloudSetup
    sims: dict[str, Provider]
    client: openai.AsyncOpenAI
    spent: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def sent(self, name: str) -> list[Exchange]:
        """What came to a simulator since the last call, or ever."""
        found = self.sims[name].record.requests[self.seen.get(name, 0) :]
        self.seen[name] = len(self.sims[name].record.requests)
        return found

    async def billed(self, model: str, headers: Any = None) -> Exchange:
        """The one request that the last answer took, which was paid for exactly as its simulator
        counts it, and nothing is reserved any more."""
        name = ROUTES[model].partition("/")[0]
        [sent] = self.sent(name)
        paid = await self.paid(headers if headers and "x-headrace-cost" in headers else None)
        assert paid == cost(model, sent), sent.used
        if headers is not None:
            assert headers["x-headrace-served-by"] == f"provider:{name}"
        return sent

    async def afresh(self) -> None:
        for name in self.sims:
            self.sent(name)
        self.spent = GRANTED - await self._left()

    async def paid(self, headers: Any = None) -> int:
        """What the last answer cost; it is in its head, and gone from the account."""
        available = GRANTED - self.spent
        cost = available - await self._left()
        self.spent += cost
        if headers is not None:
            whole, rest = divmod(cost, 1_000_000)
            assert headers["x-headrace-cost"] == f"{whole}.{rest:06d} USD"
        return cost

    async def _left(self) -> int:
        """Once nothing is reserved; read twice, as a reservation may be released between the
        look at the counter and the look at what is open."""

        async def settled() -> bool:
            found = await self.setup.balance()
            return not found.reserved and found == await self.setup.balance()

        await self.setup.until(settled)
        return (await self.setup.balance()).available


@asynccontextmanager
async def all_providers(
    home: Path, more: Callable[[CloudSetup, dict[str, Provider]], None] | None = None
) -> AsyncIterator[AllProviders]:
    """`more` adds tables of its own."""
    async with AsyncExitStack() as stack:
        setup = await stack.enter_async_context(open_cloud(home))
        sims: dict[str, Provider] = {
            "openai": OpenAI(key=SECRET),
            "google": Google(key=SECRET),
            "cloudflare": Cloudflare(key=SECRET),
            "anthropic": Anthropic(key=SECRET),
            "compatible": Compatible(key=SECRET),
        }
        for name, sim in sims.items():
            await stack.enter_async_context(sim)
            setup.provider(name, sim, kind=name, account_id="a1b2")
        setup.price("google", "gemini-embedding-001", input=1)
        setup.price("cloudflare", "@cf/meta/llama-3.1-8b-instruct", input=1, output=2)
        setup.price("openai", "gpt-3.5-turbo-instruct", input=1, output=2)
        setup.price("compatible", "some-model", input=3, output=4)
        setup.price("compatible", "embedder", input=5)
        if more is not None:
            more(setup, sims)
        for name, where in ROUTES.items():
            setup.route(name, [where])
        await setup.grant(GRANTED)
        await setup.ingress()
        await setup.fallback()
        await setup.provided("chat")
        client = openai.AsyncOpenAI(
            base_url=f"{setup.fabric.url}/v1", api_key=KEY, max_retries=0, timeout=30
        )
        await stack.enter_async_context(client)
        yield AllProviders(setup, sims, client)

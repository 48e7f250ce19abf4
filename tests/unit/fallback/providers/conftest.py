from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallback.providers.base import Provider
from tests.doubles.providers import OpenAI
from tests.unit.fallback.providers.tasks import KEY, opened


@pytest.fixture
async def sim() -> AsyncIterator[OpenAI]:
    async with OpenAI(key=KEY) as found:
        yield found


@pytest.fixture
async def cloud(sim: OpenAI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    """The simulated OpenAI."""
    async with opened(monkeypatch, "openai", sim.base_url, silence=0.5) as provider:
        yield provider

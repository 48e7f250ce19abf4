from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.doubles.ollama.server import Ollama
from tests.unit.workers.engines.ollama.setup import models, serving
from workers.engines.ollama.engine import OllamaEngine


@pytest.fixture
async def server() -> AsyncIterator[Ollama]:
    async with Ollama(*models()) as running:
        yield running


@pytest.fixture
async def engine(server: Ollama) -> AsyncIterator[OllamaEngine]:
    async with serving(server) as made:
        yield made

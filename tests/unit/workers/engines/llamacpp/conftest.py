from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.doubles.drive import config, opened
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        yield running


@pytest.fixture
async def engine(server: LlamaCpp) -> AsyncIterator[LlamaCppEngine]:
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        yield made

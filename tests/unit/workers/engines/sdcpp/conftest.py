from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.doubles.sdserver.server import SdServer
from tests.unit.workers.engines.sdcpp.setup import serving
from workers.engines.sdcpp.engine import SdCppEngine


@pytest.fixture
async def server() -> AsyncIterator[SdServer]:
    async with SdServer() as running:
        yield running


@pytest.fixture
async def engine(server: SdServer) -> AsyncIterator[SdCppEngine]:
    async with serving(server) as made:
        yield made

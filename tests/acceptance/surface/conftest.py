"""The servers of `servers`, started once for this folder, and client libraries for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.acceptance.surface.servers import surface
from tests.fabric import KEY, PATIENCE, Fabric


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    async with surface(tmp_path_factory.mktemp("surface")) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def client(served: Fabric) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=served.url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as made:
        yield made


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def claude(served: Fabric) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=served.url, api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as made:
        yield made

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup, open_cloud
from tests.acceptance.cloud.shared import AllProviders, all_providers
from tests.doubles.providers import OpenAI
from tests.fabric import KEY, PATIENCE


@pytest_asyncio.fixture
async def setup(tmp_path: Path) -> AsyncIterator[CloudSetup]:
    async with open_cloud(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[OpenAI]:
    async with OpenAI(key=SECRET) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AllProviders]:
    """All of them; a module that needs more routes makes its own."""
    async with all_providers(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def afresh(cloud: AllProviders) -> None:
    await cloud.afresh()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def claude(cloud: AllProviders) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = cloud.setup.fabric.url
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as client:
        yield client

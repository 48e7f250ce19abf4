from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup, open_cloud
from tests.doubles.providers import OpenAI


@pytest_asyncio.fixture
async def setup(tmp_path: Path) -> AsyncIterator[CloudSetup]:
    async with open_cloud(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[OpenAI]:
    async with OpenAI(key=SECRET) as made:
        yield made

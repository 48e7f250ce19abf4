from __future__ import annotations

import pytest

from tests.unit.fakes import FakeBus
from tests.unit.workers.runner_setup import Shop


@pytest.fixture
async def shop(bus: FakeBus) -> Shop:
    made = Shop(bus)
    await made.runner.open()
    await made.puller.open()
    bus.posts.clear()
    return made

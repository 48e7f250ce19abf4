from __future__ import annotations

import pytest

from tests.unit.fakes import FakeBus
from tests.unit.workers.lanes import Timers
from tests.unit.workers.runner_setup import RunnerSetup


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


@pytest.fixture
async def setup(bus: FakeBus) -> RunnerSetup:
    made = RunnerSetup(bus)
    await made.runner.open()
    await made.puller.open()
    bus.posts.clear()
    return made

"""Fixtures of all tiers that need a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.nats import broker as brokers
from deploy.nats.broker import Broker
from tests.fabric import Fabric
from tests.fabric import fabric as open_fabric

pytest_plugins = ["pytester", "tests.collected", "tests.left_out", "tests.spent", "tests.spread"]

# A likeness that fails is to show where.
pytest.register_assert_rewrite("tests.doubles.likeness")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real nats-server on a free port with an empty store."""
    with brokers.start(tmp_path / "broker", 0, 0) as running:
        yield running


@pytest.fixture
async def fabric(broker: Broker, tmp_path: Path) -> AsyncIterator[Fabric]:
    """Real processes around `broker`; none runs yet."""
    async with open_fabric(broker, tmp_path) as made:
        yield made

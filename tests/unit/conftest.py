"""Fixtures of the unit tier, how long hypothesis may search (TEST_EXAMPLES: how many tries),
and plain lines of logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.testing import capture_logs

from schemas import metrics
from tests.unit.fakes import FakeBus

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "40"))

settings.register_profile(
    "unit",
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")

# Coloured columns for a terminal would take a quarter of the time of requests by the thousand.
structlog.configure(processors=[structlog.processors.KeyValueRenderer()])


@pytest.fixture
async def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """What is logged from here on."""
    structlog.reset_defaults()
    with capture_logs() as found:
        yield found


@pytest.fixture(autouse=True)
def _labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of other tests do not count: of too many, the last have no label of their own."""
    monkeypatch.setattr(metrics, "model_label", lru_cache(metrics.Names(256)))
    monkeypatch.setattr(metrics, "node_label", lru_cache(metrics.Names(64)))

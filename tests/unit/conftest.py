"""Fixtures of the unit tier, how long hypothesis may search (TEST_EXAMPLES: how many tries),
and plain lines of logs."""

from __future__ import annotations

import os

import pytest
import structlog
from hypothesis import HealthCheck, settings

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

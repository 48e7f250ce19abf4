"""Fixtures of the unit tier, and how long hypothesis may search (TEST_EXAMPLES: how many tries)."""

from __future__ import annotations

import os

import pytest
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


@pytest.fixture
async def bus() -> FakeBus:
    return FakeBus()

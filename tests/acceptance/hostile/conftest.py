"""Processes that tell how long they hold their event loops."""

from __future__ import annotations

import pytest

from tests.fabric import Fabric


@pytest.fixture
def fabric(fabric: Fabric) -> Fabric:
    fabric.watched = True
    return fabric

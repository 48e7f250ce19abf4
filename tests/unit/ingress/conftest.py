from __future__ import annotations

import pytest

from tests.unit.ingress.asgi import Front


@pytest.fixture
async def front() -> Front:
    return Front()

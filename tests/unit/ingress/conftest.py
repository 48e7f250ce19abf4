from __future__ import annotations

import pytest

from tests.unit.ingress.asgi import FakeBusIngress


@pytest.fixture
async def ingress() -> FakeBusIngress:
    return FakeBusIngress()

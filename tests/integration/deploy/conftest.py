from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.nats import broker
from deploy.nats.broker import Broker


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the tests that do not harm it."""
    with broker.start(tmp_path_factory.mktemp("shared"), 0, 0) as running:
        yield running

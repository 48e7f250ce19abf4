"""A fabric with engines for sounds and pictures, started once for each module that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.sdserver.server import SdServer
from tests.doubles.whisper.server import whisper_sim
from tests.fabric import fabric
from tests.integration.uploads import Crowd


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crowd]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with whisper_sim() as ears, SdServer() as hands, fabric(broker, home) as made:
            await made.ingress()
            await made.worker(ears.url, kind="whisper", models=["tiny.en"])
            await made.worker(hands.url, kind="sdcpp", models=["flux"])
            await made.worker()
            await made.served("echo", "flux", "tiny.en")
            yield Crowd(made, ears, hands, made.url)


@pytest.fixture
def crowd(running: Crowd) -> Crowd:
    """For tests with ``pytest.mark.asyncio(loop_scope="module")``."""
    running.ears.jobs.clear()
    running.hands.drawn.clear()
    return running

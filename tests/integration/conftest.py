"""A fabric with engines for sounds and pictures, started once for each module that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.sdserver.server import SdServer
from tests.doubles.whisper.server import whisper_sim
from tests.fabric import fabric
from tests.integration.uploads import MediaSetup


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaSetup]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with whisper_sim() as whisper, SdServer() as sdserver, fabric(broker, home) as made:
            await made.ingress()
            await made.worker(whisper.url, kind="whisper", models=["tiny.en"])
            await made.worker(sdserver.url, kind="sdcpp", models=["flux"])
            await made.worker()
            await made.served("echo", "flux", "tiny.en")
            yield MediaSetup(made, whisper, sdserver, made.url)


@pytest.fixture
def setup(running: MediaSetup) -> MediaSetup:
    """For tests with ``pytest.mark.asyncio(loop_scope="module")``."""
    running.whisper.jobs.clear()
    running.sdserver.drawn.clear()
    return running

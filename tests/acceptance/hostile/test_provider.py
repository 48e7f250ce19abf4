"""A hostile provider behind a fallback: all that it answers by the table of the double."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cloud.cloud_setup import CloudSetup, open_cloud
from tests.acceptance.hostile.bystander import BOOKS, KEYS, unharmed
from tests.doubles.hostile.server import ACTS, hostile_server
from tests.fabric import PATIENCE, Fabric, ask

CLOUD = "cloud"


async def test_whatever_a_provider_answers_others_are_served(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    async with open_cloud(tmp_path) as setup, hostile_server() as provider:
        fabric = await _opened(setup, provider)
        for name, act in ACTS.items():
            for stream in (False, True):
                with subtests.test(f"{name}, streamed: {stream}"):
                    async with unharmed(fabric):
                        provider.act = act
                        await _ends(fabric, stream)
                    assert (await _usage(fabric))["data"] is not None
        assert (await setup.balance()).reserved == 0


async def _opened(setup: CloudSetup, provider: Any) -> Fabric:
    setup.fabric.watched = True
    setup.provider("evil", provider, silence=1)
    setup.price("evil", "bad")
    setup.route(CLOUD, ["evil/bad"], total=5)
    await setup.grant(10**9)
    await setup.ingress(keys=KEYS)
    await setup.fallback({"fallback.breaker_failures": 1000})
    await setup.fabric.worker()
    await setup.fabric.served("echo")
    await setup.provided(CLOUD)
    return setup.fabric


async def _ends(fabric: Fabric, stream: bool) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        fabric.session.post(
            fabric.url + "/v1/chat/completions",
            json={**ask("x", stream=stream, max_tokens=100), "model": CLOUD},
            headers=fabric.headers,
        ) as answer,
    ):
        assert len(await answer.read()) < 2**17
        assert answer.status in (200, 400, 502, 504), await answer.text()


async def _usage(fabric: Fabric) -> dict[str, Any]:
    """What a fallback says was bought."""
    headers = {"Authorization": f"Bearer {BOOKS}"}
    async with (
        asyncio.timeout(PATIENCE),
        fabric.session.get(f"{fabric.url}/v1/usage?by=provider", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

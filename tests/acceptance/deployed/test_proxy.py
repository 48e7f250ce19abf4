"""A real nginx and a real Caddy, as `deploy/proxy/` has them, between clients and an ingress."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from schemas.errors import BodyTooLarge, Unavailable
from schemas.settings import Settings
from tests.acceptance.deployed import proxies
from tests.acceptance.deployed.conftest import Tool
from tests.acceptance.deployed.proxies import FILES, Proxy
from tests.fabric import PATIENCE, Fabric, Process, ask

NEVER = 3_600_000
"""Milliseconds."""
CHAT = "/v1/chat/completions"


@pytest.fixture
async def worker(fabric: Fabric) -> Process:
    await fabric.ingress({"ingress.trusted_proxies": ["127.0.0.1"], "ingress.failed_keys": 2})
    made = await fabric.worker(slots=1)
    await fabric.served("echo")
    return made


@pytest.fixture(params=proxies.KINDS)
async def proxy(
    request: pytest.FixtureRequest, fabric: Fabric, worker: Process, tools: Path, tmp_path: Path
) -> AsyncIterator[Proxy]:
    found = tools / request.param
    program = found if found.exists() else Path(shutil.which(request.param) or "")
    if not program.is_file():
        said = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        said(f"there is no {request.param}")
    home = tmp_path / "proxy"
    async with proxies.running(request.param, program, home, fabric.url) as made:
        yield made


async def line(answer: aiohttp.ClientResponse, start: bytes) -> bytes:
    """The next one that begins so."""
    async with asyncio.timeout(PATIENCE):
        async for raw in answer.content:
            if raw.startswith(start):
                return raw
    raise AssertionError("the stream has ended")


async def test_nothing_is_buffered_and_who_leaves_frees_the_slot(
    proxy: Proxy, fabric: Fabric
) -> None:
    async with proxy.client() as client:

        async def stream(**echo: Any) -> aiohttp.ClientResponse:
            body = ask("one two", stream=True, echo=echo)
            return await client.post(proxy.url + CHAT, json=body, headers=fabric.headers)

        # Its first event comes, and the second never does.
        first = await stream(token_ms=NEVER)
        assert b"assistant" in await line(first, b"data: ")
        # The second one has its place in the queue while the engine is busy.
        second = await stream()
        assert first.content_type == second.content_type == "text/event-stream"
        assert b"position=1" in await line(second, b": queued")
        # It leaves, and so the engine is free. `close` would have TLS wait for nginx' last word.
        assert first.connection
        assert first.connection.transport
        first.connection.transport.abort()
        first.close()
        assert await line(second, b"data: [DONE]")
        second.close()
    await fabric.idle()


async def test_large_bodies_go_through_and_too_large_ones_are_told_so(
    proxy: Proxy, fabric: Fabric
) -> None:
    async with proxy.client() as client:
        body = io.BytesIO(orjson.dumps(ask("x" * 2**20)))
        async with client.post(proxy.url + CHAT, data=body, headers=fabric.headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["choices"][0]["message"]["content"] == "x" * 2**20
        body = io.BytesIO(bytes(2**25 + 1))
        async with client.post(proxy.url + CHAT, data=body, headers=fabric.headers) as answer:
            assert answer.status == 413
            error = (await answer.json())["error"]
            assert (error["code"], error["type"]) == (BodyTooLarge.code, BodyTooLarge.type)


async def test_guesses_count_for_who_made_them(proxy: Proxy, fabric: Fabric) -> None:
    async def guess(address: str, says: str) -> int:
        headers = {"Authorization": "Bearer sk-guess-0123456789", "X-Forwarded-For": says}
        async with (
            proxy.client(address) as client,
            client.get(proxy.url + "/v1/models", headers=headers) as answer,
        ):
            return answer.status

    one = [await guess("127.0.0.2", says) for says in ("10.0.0.1", "10.0.0.2", "10.0.0.3")]
    assert one == [401, 401, 429], "a client is not whoever it says it is"
    assert await guess("127.0.0.3", "127.0.0.2") == 401


async def test_what_is_for_the_own_network_stays_there(proxy: Proxy, fabric: Fabric) -> None:
    async def passed(address: str, path: str) -> bool:
        """Whether the ingress itself answered, which this key may not ask all."""
        async with (
            proxy.client(address) as client,
            client.get(proxy.url + path, headers=fabric.headers) as answer,
        ):
            assert answer.status in (200, 403, 421)
            return answer.status != 403 or "insufficient_scope" in await answer.text()

    for path in ("/metrics", "/admin/keys"):
        assert not await passed("127.0.0.2", path)
        assert await passed("127.0.0.1", path)
    assert await passed("127.0.0.2", "/healthz")


async def test_an_ingress_that_is_away_is_told_of(proxy: Proxy, fabric: Fabric) -> None:
    await fabric.processes[0].kill()
    async with (
        proxy.client() as client,
        client.get(proxy.url + "/v1/models", headers=fabric.headers) as answer,
    ):
        assert answer.status == Unavailable.status
        error = (await answer.json())["error"]
        assert (error["code"], error["type"]) == (Unavailable.code, Unavailable.type)
        assert answer.headers["Retry-After"]


def test_the_files_go_by_the_defaults() -> None:
    """The largest body, and what a whole answer may take."""
    settings = Settings()
    mib = settings.ingress.max_body // 2**20
    text = (FILES / "nginx.conf").read_text()
    assert f"client_max_body_size {mib}m;" in text
    assert f"max_size {mib}MiB" in (FILES / "Caddyfile").read_text()
    [patience] = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(patience) > max(settings.routes.total, settings.routes.batch_total)


def test_caddy_likes_the_form_of_its_file(tool: Tool) -> None:
    tool("caddy", "fmt", "--diff", FILES / "Caddyfile")

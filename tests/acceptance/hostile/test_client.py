"""One key's client does its worst, and another's hardly notices: it is answered within a second of
an idle machine, no process ends, and the memory is back afterwards."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.nats import broker as brokers
from tests.acceptance.hostile.bystander import SOON, memory
from tests.doubles.hostile.client import ACTS
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from tests.fabric import KEY, PATIENCE, Fabric, Process, ask, fabric
from tests.unit.ingress.request.web_server import png

OTHER = "sk-other-0123456789abcdef"
ASKED = 9
"""Requests of the bystander. The middle one counts: the machine may be busy with other things."""
CALM = 0.01
"""Seconds that one takes on an idle machine, before the attack: one that takes longer then may take
as many times longer meanwhile."""
PAUSE = 0.2
"""Seconds between two of them."""
PEAK = 512 * 2**20
"""Bytes that an attack may take meanwhile: twice what one key's bodies may, as some are parsed."""
HEAVY = frozenset({"large_bodies", "refused_bodies", "many_values", "leaving", "packed"})
LITTLE = 32 * 2**20
BACK = 1.3
"""Times what the ingress had before."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Bystander:
    """Another key, at another address. Each request has a connection of its own."""

    url: str
    pictures: str
    session: aiohttp.ClientSession
    numbers: count[int]

    async def ask(self, act: str) -> float:
        """Seconds that an answer took."""
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {OTHER}"}
        url = f"{self.url}/v1/chat/completions"
        async with self.session.post(url, json=self._request(act), headers=headers) as answer:
            said = await answer.text()
        assert answer.status == 200 or (act == "schema_bombs" and "does not fit" in said), said
        return time.monotonic() - began

    def _request(self, act: str) -> dict[str, Any]:
        if act == "slow_pictures":
            url = {"url": f"{self.pictures}/good?{next(self.numbers)}"}
            parts = [{"type": "image_url", "image_url": url}]
            return {"model": "tiny:latest", "messages": [{"role": "user", "content": parts}]}
        if act == "schema_bombs":
            # It refers to itself, so that it is checked where the bombs are.
            schema = {"title": f"{next(self.numbers)}", "properties": {"a": {"$ref": "#"}}}
            form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
            return ask('{"a":{}}', response_format=form)
        return ask("hi")


@dataclass
class Scene:
    fabric: Fabric
    ingress: Process
    bystander: Bystander
    silent: str


async def _page(request: web.Request) -> web.Response:
    if request.path == "/good":
        return web.Response(body=png(), content_type="image/png")
    await asyncio.sleep(PATIENCE)
    raise AssertionError


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    home = tmp_path_factory.mktemp("fabric")
    other = f'[[keys]]\nname = "other"\nsecret = "{OTHER}"\n'
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/{path:.*}", _page)
        pages = await stack.enter_async_context(TestServer(app))
        ollama = await stack.enter_async_context(
            Ollama(Model("tiny:latest", ("completion", "tools", "vision")))
        )
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        made = await stack.enter_async_context(fabric(broker, home, {"log.level": "info"}))
        made.fresh = True
        config = {"max_connections": 128, "fetch_private": True, "fetch_ports": [pages.port]}
        ingress = await made.ingress({f"ingress.{k}": v for k, v in config.items()}, tables=other)
        for _ in range(2):
            await made.worker("echo://?model=echo&slots=64")
        await made.worker(ollama.url, kind="ollama")
        await made.served("echo", "tiny:latest")
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0), force_close=True)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        silent = str(pages.make_url("")).rstrip("/")
        bystander = Bystander(made.url, silent, session, count())
        for act in ACTS:
            await bystander.ask(act)  # what every process needs once
        yield Scene(made, ingress, bystander, silent)


@asynccontextmanager
async def attacked(scene: Scene, act: str) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "tests.doubles.hostile.client", act, scene.fabric.url, KEY]
    command += ["--silent", scene.silent]
    attacker = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert attacker.stdout is not None
    try:
        assert await attacker.stdout.readline() == b"begun\n"
        yield
        assert attacker.returncode is None, "it was still at it"
    finally:
        attacker.kill()
        await attacker.communicate()


@pytest.mark.parametrize("act", ACTS)
async def test_another_key_is_answered_soon_and_memory_comes_back(scene: Scene, act: str) -> None:
    calm = statistics.median([await scene.bystander.ask(act) for _ in range(ASKED)])
    before = memory(scene.ingress.pid)
    async with attacked(scene, act):
        took, most = list[float](), before
        for _ in range(ASKED):
            took.append(await scene.bystander.ask(act))
            most = max(most, memory(scene.ingress.pid))
            await asyncio.sleep(PAUSE)
    assert statistics.median(took) < SOON * max(1, calm / CALM), (calm, took)
    assert most - before < (PEAK if act in HEAVY else LITTLE)
    await back_to(scene.ingress, BACK * before)
    assert [process.inner.returncode for process in scene.fabric.processes] == [None] * 4
    assert not scene.fabric.tracebacks()


async def back_to(process: Process, most: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while memory(process.pid) > most:
            await asyncio.sleep(0.2)

"""A real Prometheus with the files of `deploy/prometheus/`, in which the place of the
service-discovery file and the pace alone are others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.acceptance.deployed.conftest import ROOT
from tests.fabric import PATIENCE

FILES = ROOT / "deploy" / "prometheus"
RULES = "alerts.yaml"
_PLACE = "/etc/prometheus/headrace/*.json"
_PACE = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
_LISTENS = re.compile(r'msg="Listening on" address=(\S+)')
_READY = "Server is ready"
Series = dict[str, Any]
"""One row of an answer: ``metric`` with its labels, ``value`` with time and text."""


class Prometheus:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API. Fails for an error."""
        async with self._session.get(f"{self._url}/api/v1/{path}", params=query) as answer:
            said = await answer.json()
        assert said["status"] == "success", (path, query, said)
        return said["data"]

    async def query(self, text: str) -> list[Series]:
        found: list[Series] = (await self.get("query", query=text))["result"]
        return found

    async def until(self, text: str, enough: Callable[[list[Series]], bool]) -> list[Series]:
        """What it answers to a query, once that is `enough`."""
        found: list[Series] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while not enough(found := await self.query(text)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{text}: {found}") from None
        return found


def configured(home: Path, discovery: Path) -> Path:
    """The configuration, written to `home`. `discovery`: where the service-discovery file is."""
    text = (FILES / "prometheus.yaml").read_text()
    assert text.count(_PLACE) == 1
    assert "global:" not in text
    path = home / "prometheus.yaml"
    path.write_text(_PACE + text.replace(_PLACE, str(discovery)))
    (home / RULES).write_bytes((FILES / RULES).read_bytes())
    return path


@asynccontextmanager
async def running(program: Path, config: Path) -> AsyncIterator[Prometheus]:
    words = f"--config.file={config}", f"--storage.tsdb.path={config.parent / 'data'}"
    process = await asyncio.create_subprocess_exec(
        program, *words, "--web.listen-address=127.0.0.1:0", stderr=asyncio.subprocess.PIPE
    )
    reading = None
    try:
        assert process.stderr is not None
        said = ""
        async with asyncio.timeout(PATIENCE):
            while _READY not in said:
                line = (await process.stderr.readline()).decode()
                assert line, said
                said += line
        found = _LISTENS.search(said)
        assert found
        # What it says later must not fill the pipe.
        reading = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            yield Prometheus(f"http://{found[1]}", session)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if reading is not None:
            await reading

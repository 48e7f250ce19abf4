"""A worker with more than the echo engine: a real llama.cpp with a small real model, and doubles of
sd-server and whisper-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.acceptance.conftest import MODEL, RealLlama
from tests.acceptance.console.browser import Console
from tests.acceptance.headrace_up import HEADRACE, Running, environment
from tests.doubles.sdserver.server import SdServer
from tests.doubles.whisper.server import whisper_sim

NODE = "more"
SPEECH, PICTURE = "whisper-1", "tiny"
ALL = {"echo", MODEL, SPEECH, PICTURE}


@asynccontextmanager
async def served(console: Console, llama: RealLlama) -> AsyncIterator[None]:
    """`ALL` are served in the block."""
    async with SdServer() as sd, whisper_sim() as whisper:
        engines = (f"llamacpp={llama.url}", f"sdcpp={sd.url}", f"whisper={whisper.url}")
        async with _worker(console, NODE, *engines):
            await console.until("/v1/models", lambda found: names(found) >= ALL)
            yield


@asynccontextmanager
async def untold(console: Console, llama: RealLlama) -> AsyncIterator[str]:
    """A model of an engine that does not tell what it can do, so that all may be tried."""
    async with _worker(console, "untold", f"openai={llama.url}/v1"):
        found = await console.until("/v1/models", lambda found: bool(_untold(found)))
        yield _untold(found)[0]


@asynccontextmanager
async def _worker(console: Console, node: str, *engines: str) -> AsyncIterator[None]:
    options = [part for engine in engines for part in ("--engine", engine)]
    command = [*HEADRACE, "worker", "--data", str(console.data), "--node", node, *options]
    worker = Running(command, environment())
    try:
        yield
    finally:
        await asyncio.to_thread(worker.reap)


def _untold(found: dict[str, Any]) -> list[str]:
    return [each["id"] for each in found["data"] if "openai" in each["headrace"]["engines"]]


def names(found: dict[str, list[dict[str, str]]]) -> set[str]:
    return {each["id"] for each in found["data"]}

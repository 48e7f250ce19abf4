"""Real engines that one worker starts by their commands: llama.cpp and whisper.cpp."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import aiohttp
import pytest

from tests.fabric import Fabric, ask
from tests.real.whisper import built
from workers.engines.llamacpp import server

pytestmark = pytest.mark.real_whisper

SAID = "ask not what your country can do for you"


def tables() -> str:
    whisper = built()
    listen = ["--host", "127.0.0.1", "--port", "{port}"]
    rows: list[dict[str, Any]] = [
        {
            "name": "llama",
            "kind": "llamacpp",
            "command": [
                *(sys.executable, "-P", server.__file__, "--model", "{file}"),
                *("--alias", "tiny", "--slots", "2", "--context", "1024", "--port", "{port}"),
            ],
            "file": str(server.default_model()),
        },
        {
            "name": "ears",
            "kind": "whisper",
            "command": [str(whisper.server), *listen, "--model", "{file}", "--threads", "1"],
            "file": str(whisper.model),
            "models": ["whisper-1"],
        },
    ]
    lines = ("".join(f"{key} = {json.dumps(value)}\n" for key, value in r.items()) for r in rows)
    return "".join(f"[[engines]]\n{text}" for text in lines)


async def test_two_real_engines_of_one_worker(fabric: Fabric) -> None:
    await fabric.ingress({"routes.claim": 60.0})
    worker = await fabric.crew(tables())
    await fabric.served("tiny", "whisper-1")
    assert await words(fabric)
    assert SAID in await heard(fabric)
    for name in ("llama", "ears"):
        started = await worker.logged("process.started", process=name)
        os.kill(started["pid"], signal.SIGKILL)
        await worker.logged("engine.failed", engine=name, reason="killed by SIGKILL")
        await worker.logged("engine.ready", engine=name, skip=1)
    assert await words(fabric)
    assert SAID in await heard(fabric)
    assert await worker.stop() == 0


async def words(fabric: Fabric) -> str:
    status, body, _ = await fabric.post({**ask("Say hello."), "model": "tiny", "max_tokens": 8})
    assert status == 200, body
    text: str = body["choices"][0]["message"]["content"]
    return text


async def heard(fabric: Fabric) -> str:
    form = aiohttp.FormData({"model": "whisper-1"})
    form.add_field("file", built().speech.read_bytes(), filename="speech.mp3")
    url = f"{fabric.url}/v1/audio/transcriptions"
    async with fabric.session.post(url, data=form, headers=fabric.headers) as answer:
        assert answer.status == 200, await answer.text()
        text: str = (await answer.json())["text"]
        return text

"""Small engines as programs of a worker: ``python -m tests.doubles.programs KIND --port N``.

Each says ``ready: PID`` when it listens. `--late` seconds pass before it does.
"""

from __future__ import annotations

import argparse
import asyncio
import os

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.doubles.base import DONE, document, stream, words_of
from tests.doubles.llamacpp.scripted import CHAT, LlamaCpp, chunk
from tests.doubles.whisper.server import WhisperSim


class Parrot(LlamaCpp):
    """llama-server whose chat says again what it was told, a word after the other."""

    def __init__(self, slots: int) -> None:
        super().__init__("parrot")
        self.props["total_slots"] = slots

    async def _job(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if request.path != CHAT or not body.get("messages"):
            return await super()._job(request)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            return document({"choices": [{"index": 0, "message": message}], "model": "parrot"})
        response = await stream(request, "text/event-stream")
        await response.write(chunk({"role": "assistant", "content": None}))
        words = words_of(body["messages"][-1]["content"])
        for index, word in enumerate(words):
            await self.tick(index)
            await response.write(chunk({"content": word if not index else f" {word}"}))
        await response.write(chunk({}, "stop") + DONE)
        return response


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("llamacpp", "whisper"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--late", type=float, default=0.0)
    options = parser.parse_args()
    await asyncio.sleep(options.late)
    if options.kind == "llamacpp":
        parrot = Parrot(options.slots)
        parrot.token_s = options.token_s
        await parrot.start(options.port)
    else:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", WhisperSim().page)
        await TestServer(app, port=options.port).start_server()
    print(f"ready: {os.getpid()}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""Small engines as programs of a worker: ``python -m tests.doubles.programs KIND --port N``.

Each says ``ready: PID`` when it listens. `--late` seconds pass before it does.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.doubles.whisper.server import WhisperSim


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
        pace = options.token_s * 1000
        settings = Settings(options.slots, pace, parrot=True, model="parrot")
        await LlamaCpp(settings).listen(options.port)
    else:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", WhisperSim().page)
        await TestServer(app, port=options.port).start_server()
    print(f"ready: {os.getpid()}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""``python -m tests.doubles.providers openai --port 0``: one simulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

import orjson

from tests.doubles.providers import Provider
from tests.doubles.providers.catalog import SIMULATORS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(SIMULATORS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--token-ms", type=float, default=0.0)
    parser.add_argument("--first-ms", type=float, default=0.0)
    options = parser.parse_args()
    sim = SIMULATORS[options.name](key=options.key, models=tuple(options.model))
    sim.pace.tokens = options.tokens
    sim.pace.token_s = options.token_ms / 1000
    sim.pace.first_s = options.first_ms / 1000
    asyncio.run(_run(sim, options.port))


async def _run(sim: Provider, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await sim.start(port)
    told = {"url": sim.url, "base_url": sim.base_url, "pid": os.getpid()}
    print(orjson.dumps(told).decode(), flush=True)
    await stopped.wait()
    await sim.stop()


if __name__ == "__main__":
    main()

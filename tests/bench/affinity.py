"""How soon the second turn of a conversation begins, with affinity and without, at real engines.

    scripts/bench affinity [--runs 3] [--words 1150] [--system on|patient|off|smg …]

Two llama-servers of two slots have the small model of the quickstart. Six conversations of 1,150
words (2,000 tokens) have their first turns, and then, in another order and `AT_ONCE` at a time,
their second ones, while short requests come beside. What is told is the time to the first token of
each. Systems take turns; each run has conversations of its own, which no cache has seen. `patient`
is with `affinity_wait`, so that a full engine is waited for. `smg` is the router of PyPI with its
policy `cache_aware`, which is installed into `.cache/routers`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.acceptance.conftest import MODEL, running_llama
from tests.bench import procs, report, routers, system
from tests.bench.procs import exiting_on_sigterm
from tests.bench.routers import Router
from tests.bench.stats import percentile
from tests.bench.system import Engine, System

ENGINES, SLOTS, CONTEXT = 2, 2, 8192
TALKS, AT_ONCE = 6, 2
WORDS = 1150
"""Of a first turn: about 2,000 tokens."""
SHORT_EACH = 2.0
"""Seconds between two short requests."""
PATIENCE = 600.0
ON, PATIENT, OFF, SMG = "on", "patient", "off", "smg"
SETTINGS: dict[str, dict[str, Any]] = {
    ON: {},
    PATIENT: {"affinity_wait": 5.0},
    OFF: {"affinity": False},
}
_marks = itertools.count()
_VOCABULARY = [a + b for a in ("ri", "sto", "ma", "lo", "ken") for b in ("ver", "ne", "ter", "ly")]


@dataclass
class Found:
    """Seconds to the first token: of first turns, second turns, and short requests."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    short: list[float] = field(default_factory=list)
    cached: int = 0
    """Second turns of which the engine had half in its cache."""


def _smg(folder: Path, work: Path, port: int, engines: Sequence[Engine]) -> list[str]:
    urls = [engine.url for engine in engines]
    return [
        *(str(folder / "bin" / "smg"), "launch", "--host", "127.0.0.1", "--port", str(port)),
        *("--prometheus-port", str(port + 1), "--policy", "cache_aware", "--worker-urls", *urls),
    ]


@contextlib.contextmanager
def started(name: str, work: Path, engines: Sequence[Engine]) -> Iterator[System]:
    """The system of that name, ready to serve."""
    if name == SMG:
        with routers.router(Router("smg", _smg), SMG, work, engines) as found:
            yield found
        return
    with system.started(work, MODEL, engines, affinity=SETTINGS[name]) as found:
        _await_all(found)
        yield found


def _await_all(at: System) -> None:
    """Until the ingress knows of all engines: nothing is learnt while it knows of one alone."""
    url, head = f"{at.url}/v1/models/{MODEL}", {"Authorization": f"Bearer {at.key}"}
    while orjson.loads(procs.get(url, headers=head))["headrace"]["slots"] < ENGINES * SLOTS:
        time.sleep(0.1)


class Clients:
    def __init__(self, at: System, session: aiohttp.ClientSession, words: int, seed: int) -> None:
        self._at = at
        self._words = words
        self._session = session
        self._random = random.Random(seed)
        self.found = Found()

    async def run(self) -> Found:
        talks = [[_user(self._text(self._words))] for _ in range(TALKS)]
        room = asyncio.Semaphore(ENGINES * SLOTS)
        firsts = [self._turn(room, talk, self.found.first) for talk in talks]
        for cached in await asyncio.gather(*firsts):
            assert cached < self._words, "no cache has seen it before"
        await asyncio.sleep(1.5)  # cards say by now which slots are free
        self._random.shuffle(talks)
        beside = asyncio.create_task(self._short())
        room = asyncio.Semaphore(AT_ONCE)
        told = await asyncio.gather(*(self._turn(room, t, self.found.second) for t in talks))
        self.found.cached = sum(each > self._words for each in told)
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
        return self.found

    async def _short(self) -> None:
        """One after the other, with the same pauses, whatever becomes of them."""
        running: set[asyncio.Task[Any]] = set()
        try:
            while True:
                asked = self._ask([_user(self._text(5))], 4, self.found.short)
                running.add(asyncio.create_task(asked))
                await asyncio.sleep(SHORT_EACH)
        finally:
            await asyncio.gather(*running, return_exceptions=True)

    async def _turn(self, room: asyncio.Semaphore, talk: list[Any], times: list[float]) -> int:
        async with room:
            said, cached = await self._ask(talk, 16, times)
        talk += [{"role": "assistant", "content": said}, _user("And what comes then?")]
        return cached

    async def _ask(self, messages: list[Any], most: int, times: list[float]) -> tuple[str, int]:
        """The text, and how many tokens of the prompt were cached."""
        body = {"model": MODEL, "messages": messages, "stream": True, "max_tokens": most}
        body |= {"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
        head = {"Authorization": f"Bearer {self._at.key}"}
        url, text, cached, began = self._at.url + "/v1/chat/completions", "", 0, time.monotonic()
        async with self._session.post(url, json=body, headers=head) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                event = orjson.loads(line[6:])
                assert "error" not in event, event
                for choice in event["choices"]:
                    if piece := choice["delta"].get("content"):
                        if not text:
                            times.append(time.monotonic() - began)
                        text += piece
                details = (event.get("usage") or {}).get("prompt_tokens_details") or {}
                cached = details.get("cached_tokens") or cached
        return text, cached

    def _text(self, words: int) -> str:
        said = self._random.choices(_VOCABULARY, k=words)
        return f"{next(_marks)} {self._random.random()} " + " ".join(said)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def measured(at: System, words: int, seed: int) -> Found:
    limit = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(timeout=limit) as session:
        return await Clients(at, session, words, seed).run()


def line(name: str, all: Sequence[Found]) -> str:
    parts = []
    for what in ("first", "second", "short"):
        times = [each for found in all for each in getattr(found, what)]
        told = (f"p{s} {percentile(times, s / 100) * 1000:.0f}" for s in (50, 90, 99))
        parts.append(f"{what} {' '.join(told)} ms (of {len(times)})")
    cached, many = sum(found.cached for found in all), sum(len(found.second) for found in all)
    return f"{name:7} {'; '.join(parts)}; {cached} of {many} second turns were cached"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench affinity", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each system (default: 3)")
    parser.add_argument("--system", action="append", choices=(*SETTINGS, SMG))
    parser.add_argument("--words", type=int, default=WORDS, help="of a first turn")
    given = parser.parse_args()
    systems = given.system or [ON, OFF]
    if SMG in systems:
        Router("smg", _smg).packages.install()
    for name, value in report.about(["scripts/bench", "affinity", *sys.argv[1:]]).items():
        print(f"{name}: {value}", flush=True)
    found: dict[str, list[Found]] = {name: [] for name in systems}
    with (
        exiting_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="headrace-affinity-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        options = "--slots", str(SLOTS), "--context", str(SLOTS * CONTEXT), "--threads", "1"
        llamas = [stack.enter_context(running_llama(*options)) for _ in range(ENGINES)]
        engines = [Engine(f"e{at}", llama.url) for at, llama in enumerate(llamas)]
        for run in range(given.runs):
            for name in systems if run % 2 == 0 else reversed(systems):
                try:
                    with started(name, Path(scratch) / f"{name}-{run}", engines) as at:
                        found[name].append(asyncio.run(measured(at, given.words, run)))
                except procs.NotReady as fault:
                    print(f"{name}: {fault}", flush=True)
                    continue
                print(line(name, found[name][-1:]), flush=True)
    print("all runs:", flush=True)
    for name, all in found.items():
        if all:
            print(line(name, all), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Two real llama.cpp servers, each under a worker that is struck.

Every part of every stream is what such a server answers that is asked directly to go on from there.

Each server has one slot, as neighbours in a batch decide near ties otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from schemas.api import endpoints
from schemas.frames import SERVED_BY
from tests.acceptance.conftest import MODEL, RealLlama, running_llama
from tests.chaos import answers, strikes
from tests.chaos.asks import Ask
from tests.chaos.client import Client, Outcome
from tests.chaos.ledger import FAULTS, HONEST, Ledger
from tests.chaos.stage import Pace, Stage, stage
from tests.chaos.strikes import KINDS, Blow, Strikes
from tests.fabric import Process, table
from workers.engines.llamacpp import server as program

SERVERS, CLIENTS = 2, 3
LIMIT = 32
SAME: dict[str, Any] = {"temperature": 0, "cache_prompt": False}
SUBJECTS = ("a water mill", "the sea", "a clock", "three brothers", "the city at night", "a horse")
CHAT, COMPLETIONS = endpoints.CHAT.path, endpoints.COMPLETIONS.path
RESPONSES, MESSAGES = endpoints.RESPONSES.path, endpoints.MESSAGES.path
PATHS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
BLOWS = {
    strikes.worker_killed: 1.0,
    strikes.worker_frozen: 4.0,
    strikes.worker_drained: 0.0,
    strikes.engine_killed: 1.0,
    strikes.ingress_killed: 0.0,
    strikes.broker_killed: 4.0,
}
"""What is done, for how many seconds."""


class LiveStage(Stage):
    """Two workers that each start a real server."""

    models = (MODEL,)

    async def open(self) -> None:
        self.ingresses = [await self.ingress() for _ in range(2)]
        self.workers = list(await asyncio.gather(*map(self.worker, range(SERVERS))))
        for ingress in self.serving():
            await self.setup.fabric.served(MODEL, url=ingress.url)

    async def worker(self, place: int) -> Process:
        rows = {"name": "llama", "kind": "llamacpp", "command": _SERVER, "models": [MODEL]}
        config = {**self.pace.settings, "worker.node": f"node-{place}"}
        made = await self.setup.fabric.crew(table("[engines]", {**rows, "slots": 1}), config)
        await made.logged("engine.ready", engine="llama")
        return made


_CACHED = re.compile(rb'"cache_read_input_tokens": ?[1-9]')
_SERVER = [
    *(sys.executable, "-P", program.__file__, "--model", str(program.default_model())),
    *("--alias", MODEL, "--slots", "1", "--context", "2048", "--threads", "1"),
    *("--port", "{port}"),
]


@dataclass
class Direct:
    """A server that no worker has. What it said is kept, as it always says the same."""

    llama: RealLlama
    _said: dict[tuple[str, str, str, int], tuple[str, int, int, bool]] = field(default_factory=dict)

    async def goes_on(
        self, path: str, subject: str, text: str, limit: int
    ) -> tuple[str, int, int, bool]:
        """(text, tokens of the prompt, tokens of the text, whether the limit ended it)."""
        where = path if path == COMPLETIONS else CHAT
        key = where, subject, text, limit
        if key not in self._said:
            self._said[key] = await asyncio.to_thread(self._ask, *key)
        return self._said[key]

    def _ask(self, path: str, subject: str, text: str, limit: int) -> tuple[str, int, int, bool]:
        request = {"model": MODEL, **_said_to(path, subject), "stream": False}
        if text:
            request = endpoints.BY_PATH[path].api.with_beginning(request, text)
        status, body = self.llama.post(path, {**request, "max_tokens": limit})
        assert status == 200, body
        found = orjson.loads(body)
        [choice], usage = found["choices"], found["usage"]
        said: str = choice.get("text") or choice["message"]["content"]
        over = choice["finish_reason"] == "length"
        # The answer of a chat repeats the beginning.
        return said.removeprefix(text), usage["prompt_tokens"], usage["completion_tokens"], over


def _said_to(path: str, subject: str) -> dict[str, Any]:
    text = f"Tell me a long story about {subject}."
    messages = [{"role": "user", "content": text}]
    if path == COMPLETIONS:
        return {**SAME, "prompt": f"A long story about {subject}. Once upon a time there was"}
    return {**SAME, "input": text} if path == RESPONSES else {**SAME, "messages": messages}


@dataclass
class Live:
    stage: Stage
    ledger: Ledger
    strikes: Strikes
    direct: Direct
    seed: int
    client: Client = field(default_factory=Client)
    parts: Counter[int] = field(default_factory=Counter)
    """How many answers had so many parts."""
    otherwise: int = 0
    """Messages that say other words than without a cache. llama-server reads the beginning of their
    prompts from it whatever is asked, and decides near ties otherwise then."""
    stopped: bool = False
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def load(self) -> None:
        try:
            await asyncio.gather(*(self._one() for _ in range(CLIENTS)))
        finally:
            await self.client.close()

    async def _one(self) -> None:
        while not self.stopped:
            number = next(self.numbers)
            draw = random.Random(f"{self.seed}:{number}")
            path, subject, stream = draw.choice(PATHS), draw.choice(SUBJECTS), draw.random() < 0.8
            ingress = draw.choice(self.stage.serving())
            outcome = await self.client.send(self._ask(number, path, subject, stream), ingress)
            self.ledger.enter(replace(outcome, ask=await self._expected(outcome, subject)))

    def _ask(self, number: int, path: str, subject: str, stream: bool) -> Ask:
        limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
        body = {"model": MODEL, **_said_to(path, subject), limit: LIMIT}
        if stream:
            usage = (
                {"stream_options": {"include_usage": True}} if path in (CHAT, COMPLETIONS) else {}
            )
            body |= {"stream": True, **usage}
        return Ask(number, path, path, body, [""], continued=True)

    async def _expected(self, outcome: Outcome, subject: str) -> Ask:
        """The request with what its answer must be, by the parts that came."""
        ask, said, begun = outcome.ask, "", 0
        texts = _texts(outcome.raw) if ask.stream else [("", 0)]
        self.parts[len(texts)] += 1
        _, prompt, _, _ = await self.direct.goes_on(ask.path, subject, "", LIMIT)
        for text, tokens in texts[:-1]:
            right, _, _, _ = await self.direct.goes_on(ask.path, subject, said, LIMIT - begun)
            said += text if right.startswith(text) else right
            begun += tokens
        rest, over = "", True
        if begun < LIMIT:
            rest, _, _, over = await self.direct.goes_on(ask.path, subject, said, LIMIT - begun)
        usage = (prompt, LIMIT) if over else (0, 0)
        found = replace(ask, texts=[said + rest], usage=usage)
        if not _CACHED.search(outcome.raw) or not outcome.whole:
            return found
        own = outcome.said().texts.get(0, "")
        self.otherwise += own != said + rest
        return replace(found, texts=[own])


def _texts(raw: bytes) -> list[tuple[str, int]]:
    """The text of each holder, and the events that it came in."""
    found: list[tuple[str, int]] = []
    served = f": {SERVED_BY}".encode()
    for part in [piece for piece in raw.split(served) if b"data: " in piece] or [b""]:
        events = [answers.streamed(b"data: " + event + b"\n\n") for event in _whole(part)]
        texts = [text for event in events if (text := event.texts.get(0, ""))]
        found.append(("".join(texts), len(texts)))
    return found


def _whole(part: bytes) -> list[bytes]:
    """Of responses, the last events repeat the text; only its deltas count."""
    return [e for e in answers.events(part + b"\n\n") if b'"response"' not in e]


@dataclass
class Found:
    live: Live
    seconds: float
    faults: list[str]

    def table(self) -> str:
        ledger, struck = self.live.ledger, self.live.strikes.struck
        rows = [
            f"seed {self.live.seed}, {self.seconds:.0f} s, {len(ledger.outcomes)} requests, "
            f"{struck.total()} disturbances {dict(struck)}, parts {dict(self.live.parts)}, "
            f"{self.live.otherwise} messages with other words by their cache"
        ]
        counts = {word: ledger.count(word) for word in (*HONEST, *FAULTS)}
        rows += [f"  {word:15} {count:6}" for word, count in counts.items()]
        return "\n".join([*rows, *self.faults])


def blows(seed: int) -> Sequence[Blow]:
    draw = random.Random(f"live:{seed}")
    kinds = {kind.strike: kind for kind in KINDS}
    found = []
    for _ in range(1000):
        strike, seconds = draw.choice(list(BLOWS.items()))
        place = 0 if strike is strikes.broker_killed else draw.randrange(SERVERS)
        found.append(Blow(0.0, kinds[strike], place, seconds))
    return found


async def live(home: Path, seed: int, seconds: float) -> Found:
    with running_llama("--slots", "1", "--context", "2048", "--threads", "1") as llama:
        async with stage(home, Pace(level="info"), kind=LiveStage) as made:
            ledger = Ledger(made)
            found = Live(made, ledger, Strikes(made), Direct(llama), seed)
            began, loading = time.monotonic(), asyncio.create_task(found.load())
            for blow in blows(seed):
                if time.monotonic() > began + seconds or loading.done():
                    break
                await asyncio.sleep(random.Random(f"{seed}{blow}").uniform(1, 4))
                await found.strikes.in_turn([blow], _at_once)
            found.stopped = True
            await loading
            await made.setup.fabric.idle()
            faults = ledger.faults + made.setup.fabric.tracebacks() + made.faults
            return Found(found, time.monotonic() - began, faults)


async def _at_once(_: str) -> None: ...

"""The load: many clients on a thin HTTP/1.1 client, in a process of their own.

`run(plan)` starts ``python -m tests.bench.load``, which reads a plan as JSON on stdin and writes a
`Run` as JSON to stdout. Closed loop: `concurrency` clients, each sends when its last reply has
ended. Open loop (`rate` > 0): arrivals of a seeded Poisson process, whatever the replies do.
Times are seconds of the monotonic clock, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.bench.http_client import Exchange, Link
from tests.bench.procs import ROOT, environment
from workers.process import die_with_parent

WORDS = "Tell me how a water mill works, in a few words."
"""What is asked."""
_FOR_NOW = frozenset({429, 503})
"""With these a server says that it may be asked again."""


@dataclass(frozen=True)
class Plan:
    """What to send: request `i` goes to ``urls[i % len(urls)]``, all on the same terms.

    `cut` = (low, high): each client leaves after that many tokens of its stream (drawn with `seed`)
    and its request carries the number of it as `user`. `timeout`: seconds for one request.
    `expect`: the text that a whole reply must have, if any text is not right. `returns`: how often
    a client that is refused for now (429, 503) asks again, each time after it has waited as told.
    `timed`: the time of each token is noted, and a request carries its number as with `cut`.
    """

    urls: list[str]
    requests: int
    concurrency: int = 1
    rate: float = 0.0
    seed: int = 1
    stream: bool = False
    tokens: int = 32
    model: str = "mock"
    key: str = ""
    cut: tuple[int, int] | None = None
    timeout: float = 60.0
    expect: str = ""
    returns: int = 0
    timed: bool = False


@dataclass
class Record:
    """One request. `status` 0: no reply. `first`: first non-empty token (streams) or the end.

    `due`: when it should have been sent; later than that only in an open loop under strain.
    `chunks`: SSE data events but `[DONE]`; `reads`: pieces that the socket gave. `refusals`: how
    long each took, and what its `Retry-After` said. `times`: of tokens, if the plan wants them.
    """

    number: int
    due: float
    start: float
    first: float | None = None
    end: float | None = None
    cut: float | None = None
    status: int = 0
    chunks: int = 0
    reads: int = 0
    complete: bool = False
    text: str = ""
    fault: str = ""
    refusals: list[tuple[float, float]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """Seconds from the due time to the last byte; infinite if that never came."""
        return (self.end or float("inf")) - self.due

    @property
    def ttft(self) -> float:
        """Seconds from the due time to the first token; infinite if that never came."""
        return (self.first or float("inf")) - self.due


@dataclass(frozen=True)
class Run:
    """What came of a plan; `cpu`: seconds that the load itself used."""

    plan: Plan
    records: list[Record] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first request to the last reply; infinite if there was none."""
        last = max((record.end for record in self.records if record.end), default=float("inf"))
        return last - min(record.start for record in self.records)

    def of(self, url: int) -> list[Record]:
        """The records of ``plan.urls[url]``."""
        return [r for r in self.records if r.number % len(self.plan.urls) == url]

    @property
    def failed(self) -> list[Record]:
        """Replies that did not come, came with an error, were not whole, or not as expected."""
        return [r for r in self.records if not self._good(r)]

    def _good(self, record: Record) -> bool:
        if record.status != 200 or record.fault:
            return False
        if record.cut:
            return True
        return record.complete and self.plan.expect in ("", record.text)


def run(plan: Plan, limit: float = 300.0) -> Run:
    """Carry out `plan` in a process of its own; raises subprocess errors, also after `limit` s."""
    done = subprocess.run(
        die_with_parent.wrap([sys.executable, "-m", "tests.bench.load"]),
        cwd=ROOT,
        env=environment(),
        input=orjson.dumps(asdict(plan)),
        stdout=subprocess.PIPE,
        timeout=limit,
        check=True,
    )
    said = orjson.loads(done.stdout)
    return Run(plan, [Record(**record) for record in said["records"]], said["cpu"])


def arrivals(plan: Plan) -> list[float]:
    """Arrival times of an open loop, in seconds from its start; a function of rate and seed."""
    draw = random.Random(plan.seed)
    gaps = (draw.expovariate(plan.rate) for _ in range(plan.requests))
    return list(itertools.accumulate(gaps))


class Client:
    """The connections to one URL; reuses the one that was used last."""

    def __init__(self, plan: Plan, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.plan = plan
        self.idle: list[Link] = []
        self.head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer {plan.key}\r\nAccept: */*\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        self.same = self._request(None)

    def _request(self, user: str | None) -> bytes:
        body: dict[str, Any] = {
            "model": self.plan.model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": WORDS},
            ],
            "max_tokens": self.plan.tokens,
            "temperature": 0,
        }
        if self.plan.stream:
            body["stream"] = True
        if user is not None:
            body["user"] = user
        data = orjson.dumps(body)
        return self.head % len(data) + data

    async def ask(self, exchange: Exchange, user: str | None) -> None:
        """Send one request and see its reply to the end; the outcome is in `exchange`."""
        data = self.same if user is None else self._request(user)
        while True:
            link = self._reuse()
            fresh = link is None
            if link is None:
                loop = asyncio.get_running_loop()
                _, link = await loop.create_connection(Link, self.host, self.port)
            try:
                await link.send(data, exchange)
            except ConnectionError:
                # The server may close an idle connection while we write: that is no failure.
                if fresh or exchange.reads:
                    raise
                continue
            except asyncio.CancelledError:
                link.abort()
                raise
            if link.usable:
                self.idle.append(link)
            return

    def _reuse(self) -> Link | None:
        while self.idle:
            link = self.idle.pop()
            if link.usable:
                return link
        return None


class Load:
    """A plan being carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clients = [Client(plan, url) for url in plan.urls]
        draw = random.Random(plan.seed)
        self.cuts = [draw.randint(*plan.cut) if plan.cut else 0 for _ in range(plan.requests)]

    async def carry_out(self) -> list[tuple[Record, Exchange]]:
        """All requests, in the order of their numbers."""
        if self.plan.rate:
            start = time.monotonic() + 0.05
            due = [start + after for after in arrivals(self.plan)]
            return list(await asyncio.gather(*map(self._at, itertools.count(), due)))
        numbers = iter(range(self.plan.requests))
        lanes = await asyncio.gather(*(self._lane(numbers) for _ in range(self.plan.concurrency)))
        return sorted(itertools.chain(*lanes), key=lambda pair: pair[0].number)

    async def _lane(self, numbers: itertools.count[int] | Any) -> list[tuple[Record, Exchange]]:
        return [await self._one(number) for number in numbers]

    async def _at(self, number: int, due: float) -> tuple[Record, Exchange]:
        await asyncio.sleep(due - time.monotonic())
        return await self._one(number, due)

    async def _one(self, number: int, due: float | None = None) -> tuple[Record, Exchange]:
        start = time.monotonic()
        record = Record(number, due or start, start)
        while True:
            exchange = await self._ask(record)
            if exchange.status not in _FOR_NOW or exchange.end is None:
                return record, exchange
            told = float(exchange.retry_after or 0)
            record.refusals.append((exchange.end - start, told))
            if len(record.refusals) > self.plan.returns:
                return record, exchange
            await asyncio.sleep(told)
            start = time.monotonic()

    async def _ask(self, record: Record) -> Exchange:
        cut = self.cuts[record.number]
        exchange = Exchange(self.plan.stream, cut, self.plan.timed)
        client = self.clients[record.number % len(self.clients)]
        try:
            async with asyncio.timeout(self.plan.timeout):
                named = cut or self.plan.timed
                await client.ask(exchange, str(record.number) if named else None)
        except (OSError, TimeoutError) as fault:
            record.fault = f"{type(fault).__name__}: {fault}"
        return exchange


def told(record: Record, exchange: Exchange) -> Record:
    """`record` with what `exchange` saw; after the run, as reading JSON costs time."""
    record.status, record.reads = exchange.status, exchange.reads
    record.first, record.end, record.cut = exchange.first, exchange.end, exchange.cut
    record.times = exchange.times
    reply = exchange.read()
    record.text, record.chunks, record.complete = reply.text, reply.chunks, reply.complete
    if exchange.status >= 400:
        record.fault = exchange.raw[:300].decode(errors="replace")
    elif exchange.status and not record.cut and (not reply.complete or _is_error(exchange.raw)):
        record.fault = record.fault or exchange.raw[-300:].decode(errors="replace")
    return record


def _is_error(raw: bytes) -> bool:
    """Whether a stream ended with an error event, even if `[DONE]` comes behind it."""
    return b'data: {"error"' in raw[-1000:]


def main() -> None:
    """Read a plan on stdin, write a run to stdout."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    gc.disable()
    before = time.process_time()
    pairs = uvloop.run(Load(plan).carry_out())
    cpu = time.process_time() - before
    records = [told(record, exchange) for record, exchange in pairs]
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:  # sys.stdout may be unbuffered
        out.write(orjson.dumps({"records": records, "cpu": cpu}))


if __name__ == "__main__":
    main()

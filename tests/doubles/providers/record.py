"""What a simulated provider keeps of every connection and request, and what it would charge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal

from tests.doubles.base import PATIENCE

State = Literal["running", "finished", "refused", "aborted", "cut", "broken"]
MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars: per million tokens, per image, per second of audio, per million characters."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cached: Decimal | None = None
    """None: cached input costs what other input does."""
    image: Decimal = Decimal(0)
    second: Decimal = Decimal(0)
    characters: Decimal = Decimal(0)


@dataclass(slots=True)
class Used:
    """What a request has really used so far. `cached` is part of `input`, `reasoning` of
    `output`; `stored`: quarters of a token's price for writing to the cache; `seconds` of audio
    heard, `characters` spoken."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    images: int = 0
    seconds: float = 0.0
    characters: int = 0
    stored: int = 0

    def cost(self, price: Price) -> Decimal:
        """Dollars, unrounded."""
        cached = price.input if price.cached is None else price.cached
        tokens = (self.input - self.cached) * price.input + self.cached * cached
        tokens += self.stored * price.input / 4
        tokens += self.output * price.output + self.characters * price.characters
        units = self.images * price.image + Decimal(str(self.seconds)) * price.second
        return tokens / MILLION + units


@dataclass(slots=True)
class Connection:
    """`control`: it was used for ``/_sim`` alone, and is not counted."""

    number: int
    at: float
    requests: int = 0
    running: int = 0
    control: bool = False


@dataclass(slots=True)
class Exchange:
    """One request. Times are of ``time.monotonic()``, one clock for all processes of a machine.

    `state`: running; finished (the whole answer was sent); refused (an error in place of an
    answer); aborted (the client went first, at `ended`); cut (by the simulator: the connection, or
    the answer's end); broken (an error after the head). `headers` have names in lower case.
    `body` is JSON, or the fields of a form, whose files are in `files`. `text`: generated so far.
    """

    number: int
    connection: int
    at: float
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    files: dict[str, list[bytes]] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    state: State = "running"
    status: int = 0
    ended: float = 0.0
    used: Used = field(default_factory=Used)
    pieces: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def end(self, state: State) -> None:
        """The first end counts: what follows from a cut is no abort."""
        if self.state == "running":
            self.state, self.ended = state, time.monotonic()

    def told(self) -> dict[str, Any]:
        """As JSON, for another process."""
        sizes = {name: [len(file) for file in files] for name, files in self.files.items()}
        left = {name: getattr(self, name) for name in self.__slots__ if name != "pieces"}
        body = self.body if not isinstance(self.body, bytes) else repr(self.body)
        more = {"body": body, "files": sizes, "used": asdict(self.used), "text": self.text}
        return {**left, **more}


class Record:
    """All that came to one simulator since its start, or since `clear`."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []
        self.requests: list[Exchange] = []
        self.peak = 0
        self._live: list[Exchange] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def connections(self) -> int:
        """How many were accepted, with or without a request on them."""
        return sum(not one.control for one in self._connections)

    @property
    def running(self) -> int:
        return len(self.live)

    @property
    def live(self) -> list[Exchange]:
        """Those that run: looked up without walking through all that ever ran."""
        self._live = [one for one in self._live if one.state == "running"]
        return self._live

    @property
    def finished(self) -> int:
        return self.count("finished")

    def count(self, state: State) -> int:
        return sum(one.state == state for one in self.requests)

    def where(self, **like: Any) -> list[Exchange]:
        """The requests with these attributes: ``where(model="gpt-4o", state="aborted")``."""
        return [r for r in self.requests if all(getattr(r, k) == v for k, v in like.items())]

    def with_text(self, marker: str) -> list[Exchange]:
        """The requests whose body has `marker` anywhere: exactly one, if a job was sent once."""
        return [one for one in self.requests if marker in str(one.body)]

    def used(self, **like: Any) -> Used:
        """What those requests used together, whether they finished or not."""
        total = Used()
        for one in self.where(**like):
            for name in Used.__slots__:
                setattr(total, name, getattr(total, name) + getattr(one.used, name))
        return total

    def cost(self, prices: Mapping[str, Price], **like: Any) -> Decimal:
        """Dollars for those requests. `prices`: by model, as asked for. Raises KeyError."""
        return sum((r.used.cost(prices[r.model]) for r in self.where(**like)), Decimal(0))

    def counters(self) -> dict[str, int]:
        states = ("running", "finished", "refused", "aborted", "cut", "broken")
        counts = {state: sum(r.state == state for r in self.requests) for state in states}
        return {
            "connections": self.connections,
            "requests": len(self.requests),
            "peak": self.peak,
            **counts,
        }

    async def until(self, true: Callable[[], bool], what: str = "") -> None:
        """Wait until `true`, asked whenever something changes. Raises TimeoutError with `what`."""
        if true():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (true, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(PATIENCE):
                await future
        except TimeoutError:
            raise TimeoutError(f"{what}: {self.counters()}") from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def changed(self) -> None:
        for true, future in self._waiting:
            if not future.done() and true():
                future.set_result(None)

    def connected(self) -> Connection:
        made = Connection(len(self._connections), time.monotonic())
        self._connections.append(made)
        self.changed()
        return made

    def opened(self, exchange: Exchange) -> None:
        self.requests.append(exchange)
        self._live.append(exchange)
        self.peak = max(self.peak, self.running)
        self.changed()

    def clear(self) -> None:
        """Forget all but what is open still."""
        self.requests = [one for one in self.requests if one.state == "running"]
        self._connections = [one for one in self._connections if one.running or one.control]
        self.peak = len(self.requests)

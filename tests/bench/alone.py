"""Python alone: CPU of the ingress for a request, from its bytes to those of its answer.

``python -m tests.bench.alone [--stream] [--batches N]`` prints microseconds a request. The ingress
is real, from uvicorn's parser to the client of the broker; sockets, broker and worker are not
there: what they would say is put together before. So nothing is measured but Python, `TOGETHER`
requests at a time, the least of many batches. Another checkout is measured by the same program:
``PYTHONPATH=DIR python tests/bench/alone.py``, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import orjson
import uvicorn
import uvloop
from nats.aio.client import Client
from uvicorn.server import ServerState

from ingress.app import build
from ingress.context import Context
from ingress.http.auth import Keys
from ingress.http.protocol import protocol
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.replies import Replies
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from schemas import frames, log, subjects
from schemas.bus import Bus, Subscription
from schemas.client import DirectClient, Handler
from schemas.frames import Claim, End, Kind, Role, Start
from schemas.settings import Key, Log, Settings
from tests.unit import fakes

TOGETHER = 32
"""Requests at a time."""
TOKENS = 32
READS = 8
"""Messages of the worker in which the tokens of a stream come."""
SECRET = "sk-bench-0123456789abcdef"
MODEL = "echo"
HOLDER = "box.w1"
_INGRESS = "in-1"
_ID = re.compile(rb"^HPUB jobs\.\S+ \S+\.j\.([0-9a-f]{32})-0 ", re.MULTILINE)
_HEADERS = {
    "host": "127.0.0.1:8080",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 2.8.1",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "2.8.1",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "false",
    "authorization": f"Bearer {SECRET}",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
"""As OpenAI's client sends them."""


class Wire:
    """What is written by the client of the broker."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def jobs(self) -> list[bytes]:
        """Ids of the jobs that were published since the last call."""
        said, self.said = b"".join(self.said), []
        return _ID.findall(said)


class Peer(asyncio.Transport):
    """A client's socket. `ended`: called once it has a whole answer."""

    def __init__(self, ended: Callable[[], None], stream: bool) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8080)})
        self._ended, self._stream = ended, stream

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._stream or bytes(data[-5:]) == b"0\r\n\r\n":
            self._ended()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class AloneBus(Bus):
    """A connection of which nobody hears: `handlers` by pattern."""

    def __init__(self, wire: Wire) -> None:
        client = DirectClient()
        client._status = Client.CONNECTED
        client._transport = cast(Any, wire)
        client._max_payload = 2**20
        super().__init__(client, f"_I.{_INGRESS}")
        self.client = client
        self.subscribed: dict[str, Handler] = {}

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        self.subscribed[subject] = handler
        return cast(Subscription, None)

    def tell(self, pattern: str, subject: bytes, data: bytes) -> None:
        """A message as it is read from the broker."""
        self.client.handle(self.subscribed[pattern], 1, subject, b"", data, b"")


class Alone:
    """An ingress, and the other ends of what it speaks with."""

    def __init__(self, stream: bool) -> None:
        self._stream = stream
        key = Key.model_validate({"name": "k", "account": "acme", "secret": SECRET})
        config = Settings(keys=[key])
        self._wire = Wire()
        self._bus = AloneBus(self._wire)
        catalog = Catalog(time.monotonic)
        catalog.hear(fakes.card("w-1", MODEL))
        asked = catalog.slots, catalog.holders, catalog.nodes.places
        self._dispatch = Dispatch(self._bus, _INGRESS, config, *asked)
        edge = config.ingress
        limits = edge.max_buffer, edge.max_answer
        self._replies = Replies(self._bus, _INGRESS, self._dispatch, *limits)
        routes = Routes(config, catalog)
        self._app = build(
            Context(config, self._bus, catalog, routes, self._dispatch, Keys(config.keys))
        )
        self._left = 0
        self._done = asyncio.Event()
        self._request = _request(stream)
        self._claim, self._rest = _claim(), list(_answer(stream))

    async def open(self) -> None:
        await self._replies.open()
        self._counting = asyncio.create_task(self._dispatch.usage.run())
        config = uvicorn.Config(
            self._app,
            http=protocol(64 * 1024),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        config.load()
        kind, state = cast(Any, config.http_protocol_class), ServerState()
        self._peers = [
            kind(config=config, server_state=state, app_state={}) for _ in range(TOGETHER)
        ]
        for each in self._peers:
            each.connection_made(Peer(self._ended, self._stream))

    async def batch(self) -> None:
        """Serve `TOGETHER` requests."""
        self._left = TOGETHER
        self._done.clear()
        for each in self._peers:
            each.data_received(self._request)
        ids: list[bytes] = []
        while len(ids) < TOGETHER:
            await asyncio.sleep(0)
            ids += self._wire.jobs()
        answers, told = subjects.all_answers(_INGRESS), subjects.all_frames(_INGRESS)
        for number, id in enumerate(ids):
            stored = b'{"stream":"JOBS", "seq":%d}' % (number + 1)
            self._bus.tell(answers, b"_I.in-1.j.%b-0" % id, stored)
        for message in (self._claim, *self._rest):
            for id in ids:
                self._bus.tell(told, b"r.in-1.box.%b" % id, message)
            await asyncio.sleep(0)
        await self._done.wait()

    def _ended(self) -> None:
        self._left -= 1
        if not self._left:
            self._done.set()

    async def close(self) -> None:
        self._counting.cancel()
        await asyncio.gather(self._counting, return_exceptions=True)
        for each in self._peers:
            each.connection_lost(None)


def _request(stream: bool) -> bytes:
    said = "Tell me how a water mill works, in a few words."
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": said}], "model": MODEL}
    asked |= {"max_tokens": TOKENS, "temperature": 0.7, **({"stream": True} if stream else {})}
    body = orjson.dumps(asked)
    head = {**_HEADERS, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (lines.encode(), body)


def _claim() -> bytes:
    claim = Claim(Role.WORKER, HOLDER, "box", "echo", fakes.ack(), 0)
    return frames.pack(Kind.CLAIM, 1, 7, 0, claim.body)


def _answer(stream: bool) -> Iterable[bytes]:
    """The worker's messages: the head with the first data, tokens, and the end."""
    kind = "text/event-stream" if stream else "application/json"
    start, end = Start(200, kind), End(20, TOKENS, 0, 30)
    head = frames.pack(Kind.START, 1, 7, 0, (start.status, start.content_type))
    if stream:
        each = [_event(number) for number in range(TOKENS)]
        part = TOKENS // READS
        parts = [b"".join(each[at : at + part]) for at in range(0, TOKENS, part)]
        parts[-1] += b"data: [DONE]\n\n"
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": "word " * TOKENS}}
        parts = [orjson.dumps({"id": "chatcmpl-1", "model": MODEL, "choices": [choice]})]
    told = [frames.pack(Kind.DATA, 1, 7, seq, part) for seq, part in enumerate(parts, 1)]
    told[0] = head + told[0]
    told[-1] += frames.pack(Kind.END, 1, 7, len(parts) + 1, end.body)
    return told


def _event(number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": f"word {number}"}, "finish_reason": None}
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: %b\n\n" % orjson.dumps(made)


async def measured(stream: bool, batches: int) -> list[float]:
    """Microseconds of CPU a request, of each batch."""
    alone, found = Alone(stream), list[float]()
    await alone.open()
    for number in range(batches + batches // 10):
        began = time.thread_time()
        await alone.batch()
        took = time.thread_time() - began
        await asyncio.sleep(0)  # what is left of the requests is not the next ones'
        gc.collect(0)
        if number >= batches // 10:  # the first ones fill caches
            found.append(took * 1e6 / TOGETHER)
    await alone.close()
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="alone", description="CPU of a request, Python alone.")
    parser.add_argument("--stream", action="store_true", help="streams of 32 tokens in 8 messages")
    parser.add_argument("--batches", type=int, default=400)
    options = parser.parse_args()
    out = sys.stdout
    with open(os.devnull, "w") as nowhere:  # where the log goes
        sys.stderr = nowhere
        log.configure(Log(), "ingress")
        gc.disable()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measured(options.stream, options.batches))
    least, median = found[0], found[len(found) // 2]
    print(f"{least:.1f} us at least, {median:.1f} in the middle", file=out)


if __name__ == "__main__":
    main()

"""A thin client of NATS: a thousand of them fit into one process, as no real one would.

It has as much of `schemas.bus.Bus` as `schemas.jetstream.pulls.Pulls` needs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, cast

import orjson

from schemas.bus import Bus

_LINE = re.compile(rb"(H?MSG) (\S+) (\d+) +(?:(\S+) +)??(?:(\d+) )?(\d+)\r\n")


class Said(NamedTuple):
    """A message. `head`: its head as it came."""

    subject: str
    reply: str
    data: bytes
    head: bytes

    @property
    def headers(self) -> dict[str, str]:
        status, *lines = self.head.decode().split("\r\n")
        _, code, why = (status + "  ").split(" ", 2)
        found = {"Status": code, "Description": why.strip()} if code else {}
        return found | dict(line.split(": ", 1) for line in lines if line)


Handler = Callable[[Said], None]


class Raw(asyncio.Protocol):
    """One connection, with `inbox` as the beginning of all its inboxes. `muted`: subscriptions of
    which messages are counted, and no more."""

    connected = True

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.heard = 0
        self.bytes = 0
        self.faults: list[str] = []
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sids = count(1)
        self._handlers: dict[bytes, Handler | None] = {}
        self._rest = b""
        self._out: list[bytes] = []
        self._login = b""

    async def open(self, host: str, port: int, user: str, password: str, name: str) -> None:
        said = {
            "verbose": False, "pedantic": False, "user": user, "pass": password, "name": name,
            "lang": "raw", "version": "1", "protocol": 1, "headers": True, "no_responders": True,
        }  # fmt: skip
        self._login = b"CONNECT %b\r\nPING\r\n" % orjson.dumps(said)
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        await self.up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(2**26)
        self._transport.write(self._login)

    def connection_lost(self, fault: Exception | None) -> None:
        self.connected = False
        self.faults.append(f"closed: {fault}")

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data if self._rest else data, 0
        while (end := data.find(b"\r\n", at)) >= 0:
            if data.startswith((b"MSG", b"HMSG"), at):
                found = _LINE.match(data, at)
                assert found is not None, data[at : at + 200]
                _, subject, sid, reply, head, size = found.groups()
                stop = found.end() + int(size)
                if len(data) < stop + 2:
                    break
                self._heard(found.end(), stop, data, subject, sid, reply, int(head or 0))
                at = stop + 2
                continue
            self._word(data[at:end])
            at = end + 2
        self._rest = data[at:]

    def _heard(
        self, at: int, stop: int, data: bytes, subject: bytes, sid: bytes, reply: bytes, head: int
    ) -> None:
        self.heard += 1
        self.bytes += stop - at
        handler = self._handlers.get(sid)
        if handler is not None:
            said = data[at : at + head].strip() if head else b""
            handler(Said(subject.decode(), (reply or b"").decode(), data[at + head : stop], said))

    def _word(self, line: bytes) -> None:
        if line == b"PING":
            self._write(b"PONG\r\n")
        elif line == b"PONG":
            if not self.up.done():
                self.up.set_result(None)
        elif line.startswith(b"-ERR"):
            self.faults.append(line.decode())

    def post(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        to = f"{subject} {reply}" if reply else subject
        if headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = b"%d %d" % (len(head), len(head) + len(payload))
            self._write(b"HPUB %b %b\r\n%b%b\r\n" % (to.encode(), sizes, head, payload))
        else:
            self._write(b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(payload), payload))

    async def subscribe(self, subject: str, handler: Handler | None) -> None:
        """`handler`: None only counts."""
        sid = b"%d" % next(self._sids)
        self._handlers[sid] = handler
        self._write(b"SUB %b %b\r\n" % (subject.encode(), sid))

    def _write(self, line: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(line)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.write(b"".join(out))

    def as_bus(self) -> Bus:
        """For `Pulls`, which takes no more of a bus than this has."""
        return cast(Bus, self)

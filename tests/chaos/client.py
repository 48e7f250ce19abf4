"""A client of the chaos: it asks one thing of one ingress, and says what became of it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from tests.chaos import answers
from tests.chaos.asks import LEAVES, SLOW, Ask
from tests.fabric import KEY, Process

PATIENCE = 120.0
"""Seconds after which a request hangs."""
_ROOM = 4096
"""Bytes that the kernel keeps for a client that hardly reads."""


@dataclass
class Outcome:
    """What a request came to: `status` 0 if no head came, `whole` if its end came. `broken`: what
    broke the connection. `left`: the client did, on purpose."""

    ask: Ask
    ingress: Process
    since: float
    till: float = 0.0
    status: int = 0
    raw: bytes = b""
    whole: bool = False
    left: bool = False
    hung: bool = False
    broken: str = ""
    served_by: str = ""
    cost: str = ""
    retry_after: str = ""

    def said(self) -> answers.Said:
        """Raises ValueError, LookupError, TypeError if it is no answer."""
        if self.ask.stream:
            return answers.streamed(self.raw)
        return answers.document(json.loads(self.raw))


class Client:
    """Each request has a connection of its own, so that none ends with another's."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, ask: Ask, ingress: Process) -> Outcome:
        outcome = Outcome(ask, ingress, time.monotonic())
        limit = ask.after if ask.conduct == LEAVES else PATIENCE
        try:
            async with asyncio.timeout(limit):
                await (_slowly(outcome) if ask.conduct == SLOW else self._ask(outcome))
        except TimeoutError:
            outcome.left, outcome.hung = ask.conduct == LEAVES, ask.conduct != LEAVES
        except (aiohttp.ClientError, OSError) as fault:
            outcome.broken = f"{type(fault).__name__}: {fault}"
        outcome.till = time.monotonic()
        return outcome

    async def _ask(self, outcome: Outcome) -> None:
        url = outcome.ingress.url + outcome.ask.path
        key = {"Idempotency-Key": outcome.ask.key} if outcome.ask.key else {}
        headers = {**_HEADERS, **key}
        async with self._session.post(url, json=outcome.ask.body, headers=headers) as answer:
            outcome.status = answer.status
            _note(outcome, answer.headers.get)
            async for piece in answer.content.iter_any():
                outcome.raw += piece
            outcome.whole = True


_HEADERS = {"Authorization": f"Bearer {KEY}"}


def _note(outcome: Outcome, header: object) -> None:
    assert callable(header)
    outcome.served_by = header("x-headrace-served-by") or ""
    outcome.cost = header("x-headrace-cost") or ""
    outcome.retry_after = header("retry-after") or ""


async def _slowly(outcome: Outcome) -> None:
    """Read a byte a second for a while, and then as fast as it comes."""
    ask, found = outcome.ask, urlsplit(outcome.ingress.url)
    body = json.dumps(ask.body).encode()
    head = (
        f"POST {ask.path} HTTP/1.1\r\nHost: {found.netloc}\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    with socket.socket() as link:
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
        await loop.sock_connect(link, (found.hostname, found.port))
        await loop.sock_sendall(link, head.encode() + body)
        raw = b""
        while time.monotonic() < outcome.since + ask.after:
            raw += (piece := await loop.sock_recv(link, 1))
            if not piece:
                break
            await asyncio.sleep(1)
        while piece := await loop.sock_recv(link, 2**16):
            raw += piece
    _read(outcome, raw)


def _read(outcome: Outcome, raw: bytes) -> None:
    """The answer in an HTTP message. Its head may be missing if the connection broke."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    outcome.status = int(lines[0].split(" ")[1]) if head else 0
    fields = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines[1:])}
    _note(outcome, fields.get)
    if fields.get("transfer-encoding") == "chunked":
        outcome.raw, outcome.whole = _unchunked(rest)
    else:
        outcome.raw = rest
        outcome.whole = bool(head) and len(rest) == int(fields.get("content-length", -1))
    if not outcome.whole:
        outcome.broken = "the connection ended before the answer did"


def _unchunked(raw: bytes) -> tuple[bytes, bool]:
    found = b""
    while True:
        size, separator, raw = raw.partition(b"\r\n")
        if not separator:
            return found, False
        length = int(size, 16)
        if not length:
            return found, True
        found, raw = found + raw[:length], raw[length + 2 :]

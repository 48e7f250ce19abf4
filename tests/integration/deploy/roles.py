"""Clients of the broker, one for each role, and what its monitoring pages show; for tests."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client

from deploy.nats.broker import Broker
from schemas import subjects

PATIENCE = 10.0
INBOXES = {
    "worker": f"{subjects.INBOX_WORKER}.box",
    "ingress": subjects.INBOX_INGRESS,
    "keys": subjects.INBOX_KEYS,
    "fallback": f"{subjects.INBOX_FALLBACK}.box",
    "monitor": subjects.INBOX_MONITOR,
    "console": subjects.INBOX_MONITOR,
    "hub": subjects.INBOX_HUB,
}


class Connection:
    """A client of one role that remembers what the server refused it."""

    def __init__(self, client: Client, refused: asyncio.Queue[str]) -> None:
        self.client = client
        self.refused = refused

    async def settled(self) -> None:
        """Return when the server has done all that was asked of it.

        nats-py writes the PING of `flush` ahead of commands that still wait in its buffer, so
        only a second PING is sure to follow them.
        """
        await self.client.flush()
        await self.client.flush()

    async def refusal(self) -> str:
        return await asyncio.wait_for(self.refused.get(), PATIENCE)


@asynccontextmanager
async def connected(to: Broker, role: str, **options: Any) -> AsyncIterator[Connection]:
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def note(fault: Exception) -> None:
        refused.put_nowait(str(fault).lower())

    user, password = to.users[role]
    client = await nats.connect(
        to.url,
        user=user,
        password=password,
        error_cb=note,
        inbox_prefix=INBOXES.get(role, subjects.INBOX_ADMIN),
        allow_reconnect=False,
        **options,
    )
    try:
        yield Connection(client, refused)
    finally:
        await client.close()


def page(running: Broker, path: str) -> Any:
    """The JSON of a monitoring page."""
    with urllib.request.urlopen(running.http_url + path, timeout=PATIENCE) as answer:
        return json.load(answer)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port

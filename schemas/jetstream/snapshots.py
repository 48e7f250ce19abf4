"""Copies of whole streams as the broker makes and takes them: messages, sequences, times, counters.

The format of the pieces is the broker's own. It waits for an answer to each piece it sends, and
answers each piece it gets, so nothing piles up in between. Every function raises BusError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from schemas.bus import Bus, BusError, Message, NotFound
from schemas.client import said
from schemas.jetstream.words import status_of

PIECE = 128 * 1024
"""Bytes of a piece."""
PATIENCE = 30.0
"""Seconds that the broker may take for a piece, or to begin: it first checks the whole stream."""


class Snapshot:
    """One copy being made. `about` has the stream's `config` and `state` once `pieces` gave one."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self.about: dict[str, Any] = {}
        self._bus = bus
        self._stream = stream
        self._heard: asyncio.Queue[Message] = asyncio.Queue()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Raises NotFound if there is no such stream."""
        inbox = f"{self._bus.inbox}.snapshot"
        subscription = await self._bus.subscribe(inbox, self._heard.put_nowait)
        wanted = {"deliver_subject": inbox, "chunk_size": PIECE, "no_consumers": True, "jsck": True}
        # `jsck`: the broker refuses to copy a stream whose checksums are wrong.
        try:
            self.about = await self._bus.api(f"STREAM.SNAPSHOT.{self._stream}", wanted, PATIENCE)
            while piece := await self._piece():
                yield piece
        finally:
            await subscription.stop()

    async def _piece(self) -> bytes:
        """The next piece; empty at the end."""
        try:
            async with asyncio.timeout(PATIENCE):
                message = await self._heard.get()
        except TimeoutError:
            raise BusError(f"the broker fell silent while {self._stream} was copied") from None
        status = status_of(message)
        if status is not None and status.code != "204":  # 204 comes behind the last piece
            raise BusError(f"{self._stream} cannot be copied: {status.why or status.code}")
        if message.reply:
            self._bus.post(message.reply)
        return message.data


async def restore(bus: Bus, stream: str, about: dict[str, Any], pieces: Iterable[bytes]) -> None:
    """Put a copied stream in the place of the stream of that name."""
    with suppress(NotFound):
        await bus.api(f"STREAM.DELETE.{stream}")
    wanted = {"config": about["config"], "state": about["state"]}
    begun = await bus.api(f"STREAM.RESTORE.{stream}", wanted, PATIENCE)
    for piece in pieces:
        answer = await bus.request(begun["deliver_subject"], piece, PATIENCE)
        if answer.data:
            said(stream, answer)
    said(stream, await bus.request(begun["deliver_subject"], b"", PATIENCE))

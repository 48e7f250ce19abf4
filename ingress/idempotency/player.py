"""Fills a recording: with what is stored under its key, or else by doing what was asked.

An answer that another ingress writes is read on as it grows. If that ingress falls silent, this one
takes over: it goes on where the stored text ends, or begins anew if that cannot be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress

import orjson
import structlog
from starlette.responses import Response

from ingress.idempotency.recording import Head, Recording, head_of
from ingress.idempotency.run import Run
from ingress.idempotency.store import AnswerStore, Overtaken, Part, Stored
from schemas import errors
from schemas.api import sse
from schemas.bus import BusError
from schemas.errors import HeadraceError
from schemas.frames import SERVED_BY

log = structlog.get_logger("idempotency")

POLL = 0.25
"""Seconds between two looks at an answer that another ingress writes."""
STILL = 1.0
"""Seconds after which a writer without news says that it lives."""
SILENT = 4 * STILL
"""Seconds without a message after which a writer counts as lost."""
GATHER = 0.1
"""Seconds for which a writer gathers what it writes as one message."""
PATIENCE = 30.0
"""Seconds for which a writer tries to reach the broker; then the answer is not kept."""
PIECE = 512 * 1024
"""Bytes of one message. An event may be larger, and is in several then."""


class Player:
    """`name`: the subject's token. `run`: does what was asked, here."""

    def __init__(self, store: AnswerStore, name: str, recording: Recording, run: Run) -> None:
        self._store = store
        self._name = name
        self._recording = recording
        self._run = run
        self._place = 0
        """Of the last message that was read or written."""
        self._heard = 0.0
        self._kept = 0
        """Parts that are stored already, from which this ingress goes on."""
        self._broken = False
        """The answer's last writer gave up."""
        self._joiner = sse.Joiner()
        self._left = asyncio.Event()

    def leave(self) -> None:
        """Nobody listens any more: stop, wherever the answer is made."""
        self._left.set()
        self._run.leave()

    async def play(self) -> None:
        """Returns once the recording is over, and stored. Never raises."""
        recording = self._recording
        try:
            if await self._claimed():
                await self._produce()
        except Exception as fault:  # noqa: BLE001 - those who wait must hear of it
            recording.end(whole=False, error=told(fault))

    # What others write

    async def _claimed(self) -> bool:
        """Read what others write; True once it is on this ingress to write, False if the answer is
        over. Raises IdempotencyConflict."""
        while not self._left.is_set():
            with suppress(Overtaken):
                if not self._place or self._broken or self._is_silent():
                    digest = self._recording.digest
                    self._place = await self._store.append(
                        self._name, self._place, Part.OPEN, digest
                    )
                    return True
            await self._read_on()
            if self._recording.whole:
                return False
            if not self._broken and not self._is_silent():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._left.wait()
        self._recording.end(whole=False, error=errors.ClientGone("nobody waits for the answer"))
        return False

    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard > SILENT

    async def _read_on(self) -> None:
        async with aclosing(self._store.read(self._name, self._place)) as messages:
            async for stored in messages:
                self._place, self._heard = stored.place, time.monotonic()
                await self._hear(stored)

    async def _hear(self, stored: Stored) -> None:
        recording = self._recording
        match stored.part:
            case Part.OPEN:
                if stored.data != recording.digest:
                    raise errors.IdempotencyConflict(
                        "This Idempotency-Key belongs to another request. Use a new key for each "
                        "request, and the same only to repeat it.",
                        param="Idempotency-Key",
                    )
                self._broken, self._joiner = False, sse.Joiner()  # another writer begins
            case Part.HEAD:
                status, headers, goes_on = orjson.loads(stored.data)
                recording.begin(Head(status, headers, goes_on))
            case Part.BODY if recording.head is not None:
                whole = recording.head.is_stream
                await recording.add(self._joiner.feed(stored.data) if whole else stored.data)
            case Part.BROKEN:
                self._broken = True
            case Part.END:
                recording.end(whole=True)

    # What this ingress does

    async def _produce(self) -> None:
        self._recording.made_here = True
        writing = asyncio.create_task(self._write())
        try:
            await self._answer(await self._respond())
        except Exception as fault:  # noqa: BLE001 - as above
            self._recording.end(whole=False, error=told(fault))
        finally:
            await writing

    async def _respond(self) -> Response:
        """The response, which goes on from what is there already, if it can."""
        recording, begun = self._recording, b""
        if (head := recording.head) is not None and head.is_stream:
            # Two providers would be paid for one answer, so only a worker's is gone on with.
            by_worker = head.headers.get(SERVED_BY, "").startswith("node:")
            begun = b"".join(recording.parts) if by_worker else b""
        if begun:
            with suppress(errors.StreamInterrupted):
                response = await self._run.response(begun)
                recording.begin(head_of(response, goes_on=True))
                self._kept = len(recording.parts)
                return response
        response = await self._run.response()
        recording.begin(head_of(response))
        return response

    async def _answer(self, response: Response) -> None:
        await self._recording.fill(response)
        # Errors are not kept: who asks again may get an answer.
        failed = response.status_code >= 400 or self._run.failed(self._recording.parts)
        self._recording.end(whole=not failed)

    # What is stored of that

    async def _write(self) -> None:
        """Store the recording as it grows."""
        recording, written, opened = self._recording, 0, False
        try:
            while True:
                if not opened and recording.head is not None:
                    opened, written = True, self._kept
                    await self._append(Part.HEAD, orjson.dumps([*recording.head]))
                fresh = recording.parts[written:] if opened else []
                written += len(fresh)
                for piece in _pieces(b"".join(fresh)):
                    await self._append(Part.BODY, piece)
                if fresh:  # more may have come while this was written
                    continue
                if recording.over:
                    await self._append(Part.END if recording.whole else Part.BROKEN)
                    return
                await self._pause()
        except Overtaken:
            log.warning("idempotency.overtaken", name=self._name)
            why = "This ingress stood still, and another goes on with the answer. Ask again."
            recording.end(whole=False, error=errors.StreamInterrupted(why))
            self._run.leave()
        except BusError as fault:
            log.warning("idempotency.not_kept", name=self._name, error=str(fault))

    async def _pause(self) -> None:
        """Until there is news, and a little longer. Tells readers that this process lives."""
        try:
            async with asyncio.timeout(STILL):
                await self._recording.news()
        except TimeoutError:
            await self._append(Part.STILL)
        else:
            await asyncio.sleep(GATHER)

    async def _append(self, part: Part, data: bytes = b"") -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._place = await self._store.append(self._name, self._place, part, data)
                return
            except BusError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(POLL)


def told(fault: Exception) -> HeadraceError:
    """What clients are told of a fault."""
    if isinstance(fault, HeadraceError):
        return fault
    if isinstance(fault, BusError):
        return errors.BrokerUnavailable(f"The answer cannot be kept: {fault}.", retry_after=1)
    log.error("internal", exc_info=fault)
    return errors.Internal("A fault of the fabric; the log has it.")


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))

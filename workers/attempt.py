"""One attempt at a job: its claim, its progress, its frames and the ring to resend them from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from typing import Any

from schemas import frames, metrics, subjects
from schemas.bus import Bus, BusError
from schemas.frames import Claim, End, Kind, Role
from schemas.jobs import Job
from workers.cancellation import Reason, Withdrawn

PIECE = 256 * 1024
"""Most bytes of answer in one frame: the broker takes messages of at most 2 MB."""


class Attempt:
    """A delivery that this worker holds. It is the `Sink` for the engine's answer.

    Frames that are ready in the same turn of the event loop travel in one message; there is no
    timer. `number` is the broker's delivery count and `nonce` is 56 random bits: with both, the
    ingress tells this attempt's frames from those of any other. `turn` is (stream sequence,
    delivery count).
    """

    def __init__(self, bus: Bus, job: Job, ack: str, ring: int) -> None:
        """Raises ValueError or IndexError if `ack` is not an ack subject."""
        self.job = job
        self.ack = ack
        self.turn = subjects.turn_of(ack)
        self.number = self.turn[1]
        self.nonce = int.from_bytes(os.urandom(7), "big")
        self.permitted = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.stopped: Exception | None = None
        # Since when the claim waits; the last progress; when the lease was last prolonged.
        self.began = self.moved = self.leased = time.monotonic()
        self.lapsed = False
        """The lease was not prolonged in time. The ingress has to say anew who holds the job."""
        self.generating = False
        """The engine works on the answer, but has sent nothing of it yet."""
        self._claim = b""
        self._holder = ""
        self._bus = bus
        self._subject = subjects.frames(job.ingress, job.id)
        self._limit = ring
        self._ring: deque[tuple[int, bytes]] = deque()
        self.kept = 0
        """Bytes in the ring."""
        self._seq = 0
        self._ready: list[bytes] = []

    def claim(self, role: Role, holder: str, node: str, engine: str) -> None:
        claim = Claim(role, holder, node, engine, self.ack, self.job.edition)
        # A claim is no part of the answer, so it does not use up a number.
        self._claim = frames.pack(Kind.CLAIM, self.number, self.nonce, 0, claim.body)
        self._holder = holder
        self.repeat_claim()

    def repeat_claim(self) -> None:
        """The broker sends 503 to the holder if no ingress listens."""
        self._post(self._claim, subjects.control(self._holder))

    def start(self, status: int, content_type: str) -> None:
        self._add(Kind.START, (status, content_type))

    def note(self, *pairs: tuple[str, str]) -> None:
        """Tell the ingress a fact about the answer; one told before `start` goes into its head."""
        self._add(Kind.NOTE, pairs)

    def data(self, chunk: bytes) -> None:
        if len(chunk) <= PIECE:
            self._add(Kind.DATA, chunk)
            return
        for at in range(0, len(chunk), PIECE):
            self._add(Kind.DATA, chunk[at : at + PIECE])
            self._flush()  # at once: two pieces must not share a message

    def touch(self) -> None:
        self.generating = True
        self.moved = time.monotonic()

    def probed(self) -> None:
        """The engine answered a probe, so it does not hang, whatever it does with this job."""
        self.moved = time.monotonic()

    async def settle(self) -> None:
        await self._bus.settle()

    def end(self, end: End) -> None:
        self._add(
            Kind.END,
            (end.prompt_tokens, end.completion_tokens, end.cached_tokens, end.engine_ms),
        )
        self._flush()  # at once: the ack follows in this turn, and must not overtake the end

    def fail(self, code: str, message: str, retryable: bool) -> None:
        self._add(Kind.FAIL, (code, message, retryable))
        self._flush()

    def alive(self, reply: str) -> None:
        """Say that the attempt lives; the broker sends 503 to `reply` if no ingress listens."""
        body = self.generating or None
        # It has the number of the next frame, so that the ingress sees if the last one was lost.
        frame = frames.pack(Kind.ALIVE, self.number, self.nonce, self._seq, body)
        self._post(frame, reply)

    def resend(self, first: int) -> None:
        """Send again all frames from `first` on; fail the attempt if the ring has lost one."""
        metrics.RESENDS.inc()
        # What is asked for has left the ring.
        if first < self._seq and (not self._ring or self._ring[0][0] > first):
            # Under the number that is missing: all later ones would wait for that.
            fault = ("stream_interrupted", "frames were lost and are no longer kept", False)
            self._post(frames.pack(Kind.FAIL, self.number, self.nonce, first, fault))
            self.stop(Withdrawn(Reason.UNSENDABLE))
            return
        for seq, frame in self._ring:
            if seq >= first:
                self._post(frame)

    def stop(self, why: Exception) -> None:
        """End the attempt's task. `why` is Withdrawn or EngineFault; only the first call counts."""
        if self.stopped is None:
            self.stopped = why
            if self.task is not None:
                self.task.cancel()

    def _add(self, kind: Kind, body: Any) -> None:
        frame = frames.pack(kind, self.number, self.nonce, self._seq, body)
        self._ring.append((self._seq, frame))
        self.kept += len(frame)
        self._seq += 1
        while self.kept > self._limit and len(self._ring) > 1:  # the last one stays, of any size
            self.kept -= len(self._ring.popleft()[1])
        self.moved = time.monotonic()
        if not self._ready:  # else a flush is scheduled already
            asyncio.get_running_loop().call_soon(self._flush)
        self._ready.append(frame)

    def _flush(self) -> None:
        if self._ready:
            ready, self._ready = self._ready, []
            self._post(ready[0] if len(ready) == 1 else b"".join(ready))

    def _post(self, payload: bytes, reply: str = "") -> None:
        with contextlib.suppress(BusError):  # the ingress will ask for the lost frame
            self._bus.post(self._subject, payload, reply)

"""Keeps frames that arrived too early until the missing ones are here, up to a limit."""

from __future__ import annotations

from schemas.frames import Frame

FRAMES = 4096
BYTES = 8 * 2**20
"""More than a holder keeps to send again. Frames beyond it are dropped, and asked for later."""
_SMALL = 64 * 1024
"""Bytes that a frame without data counts for."""


class ReorderBuffer:
    def __init__(self) -> None:
        self._frames: dict[int, Frame] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        size = self._size + _size(frame)
        if frame.seq not in self._frames and len(self._frames) < FRAMES and size <= BYTES:
            self._frames[frame.seq] = frame
            self._size = size

    def pop(self, seq: int) -> Frame | None:
        frame = self._frames.pop(seq, None)
        if frame is not None:
            self._size -= _size(frame)
        return frame


def _size(frame: Frame) -> int:
    return len(frame.body) if isinstance(frame.body, bytes) else _SMALL

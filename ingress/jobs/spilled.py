"""A body that waits in a file, and is read as bytes are."""

from __future__ import annotations

import os
import tempfile


class Spilled:
    """A body in a file that has no name, and is gone with this object, or with the process. It is
    read as bytes are: by slices, of which ``[:]`` is all."""

    def __init__(self, size: int, folder: str) -> None:
        """Raises OSError."""
        self._size = size
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:  # 0600, and unlinked
            self._descriptor = os.dup(file.fileno())

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Raises OSError."""
        start, stop, _ = part.indices(self._size)
        pieces = []
        while start < stop and (piece := os.pread(self._descriptor, stop - start, start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def write(self, body: bytes) -> None:
        """Raises OSError, of a disk that is full, say."""
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


Body = bytes | Spilled
"""The body of a request, wherever it is. Both have `len`, and slices that are bytes."""

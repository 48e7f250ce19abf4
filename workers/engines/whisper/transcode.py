"""Decodes a file on stdin to mono 16-bit samples at 16 kHz on stdout, with PyAV.

    python -I transcode.py DEMUXER < file > samples

It is a program of its own, so that a crash or a decompression bomb ends only this process. It
imports nothing of the package, so it starts in 0.2 s. Exit codes: 1 with the reason on stderr,
`TOO_LONG`, or `NO_DECODER` if PyAV cannot be imported, or was built without what the file needs.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from typing import BinaryIO

RATE = 16_000
MAX_SECONDS = 2 * 3600
TOO_LONG = 3
NO_DECODER = 4
_MEMORY = 2 * 2**30
"""Bytes of address space."""
_CPU_SECONDS = 120


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    try:
        import av
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is not the file
        print(fault, file=sys.stderr)
        return NO_DECODER
    lacking = (av.error.DemuxerNotFoundError, av.error.DecoderNotFoundError)
    room = MAX_SECONDS * RATE * 2
    try:
        for chunk in samples(sys.stdin.buffer, sys.argv[1]):
            room -= len(chunk)
            if room < 0:
                return TOO_LONG
            sys.stdout.buffer.write(chunk)
    except lacking as fault:
        print(fault, file=sys.stderr)
        return NO_DECODER
    except (av.FFmpegError, LookupError, MemoryError, ValueError) as fault:
        print(getattr(fault, "strerror", None) or fault, file=sys.stderr)
        return 1
    return 0


def samples(file: BinaryIO, demuxer: str) -> Iterator[bytes]:
    """The first audio track in pieces. Raises av.FFmpegError, or LookupError without a track."""
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(file, mode="r", format=demuxer) as container:
        if not container.streams.audio:
            raise LookupError("there is no audio track in it")
        for frame in container.decode(container.streams.audio[0]):
            for piece in resampler.resample(frame):
                yield _bytes(piece.planes[0], piece.samples)
        for piece in resampler.resample(None):  # what it still holds
            yield _bytes(piece.planes[0], piece.samples)


def _bytes(plane: object, count: int) -> bytes:
    """The samples of a plane, without the padding behind them."""
    return bytes(memoryview(plane)[: count * 2])  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())

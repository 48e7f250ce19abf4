"""Event streams as bytes: where events end, and whether a stream is whole."""

from __future__ import annotations

from workers.engines.http.connection import LinkBroken

DONE = b"data: [DONE]"
LARGEST = 2**26
"""Bytes of one event: a picture in base64 is one, and an event without an end is none."""
_BREAK = b"\n\n"


class Events:
    """Gives back only whole events: a keep-alive comment may then go between any two pieces. With
    ``\\n`` for the ``\\r\\n`` that some servers send (sse-starlette's usual one).

    `feed` takes what one read gave and returns the whole events so far (may be empty).
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._last = b""
        self._half = b""

    def feed(self, chunk: bytes) -> bytes:
        """Raises LinkBroken for an event that does not end."""
        if b"\r" in chunk or self._half:
            chunk = self._half + chunk
            self._half = b"\r" if chunk.endswith(b"\r") else b""
            chunk = chunk.removesuffix(b"\r").replace(b"\r\n", b"\n")
        cut = len(chunk) if chunk.endswith(_BREAK) else chunk.rfind(_BREAK) + 2
        if cut < 2:  # its break may be cut in two
            cut = int(self._rest.endswith(b"\n") and chunk.startswith(b"\n"))
        whole = chunk[:cut]
        if self._rest or cut < len(chunk):
            whole = self._kept(whole, chunk[cut:])
        if whole:
            self._last = whole if len(whole) > 2048 else self._last[-2048:] + whole
        return whole

    def _kept(self, whole: bytes, rest: bytes) -> bytes:
        """What was kept goes before `whole`, if there is any; `rest` is kept."""
        if whole:
            whole = bytes(self._rest) + whole
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > LARGEST:
            raise LinkBroken(f"an event of more than {LARGEST} bytes")
        return whole

    @property
    def tail(self) -> bytes:
        """At least the last event."""
        return self._last

    @property
    def finished(self) -> bool:
        """Whether ``[DONE]`` came: a stream that ends without it has failed, whoever sent it."""
        return self._last.rstrip().endswith(DONE)

"""Event streams as bytes: where events end, and whether a stream is whole."""

from __future__ import annotations

DONE = b"data: [DONE]"
_BREAK = b"\n\n"


class Events:
    """Gives back only whole events: a keep-alive comment may then go between any two pieces.

    `feed` takes what one read gave and returns the whole events so far (may be empty).
    """

    def __init__(self) -> None:
        self._rest = b""
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        if self._rest:
            chunk = self._rest + chunk
        if chunk.endswith(_BREAK):
            self._rest = b""
            whole = chunk
        else:
            cut = chunk.rfind(_BREAK) + 2
            if cut < 2:
                self._rest = chunk
                return b""
            whole, self._rest = chunk[:cut], chunk[cut:]
        self._last = whole if len(whole) > 2048 else self._last[-2048:] + whole
        return whole

    @property
    def tail(self) -> bytes:
        """At least the last event."""
        return self._last

    @property
    def finished(self) -> bool:
        """Whether ``[DONE]`` came: a stream that ends without it has failed, whoever sent it."""
        return self._last.rstrip().endswith(DONE)

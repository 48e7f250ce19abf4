"""Server-sent events as bytes: the only place that splits, joins, reads or writes them.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Lines end with CR, LF or
CR LF, a byte order mark may come first, a space behind the colon is optional, an event may have
several lines of data, and comments stand between and inside events. Here the end
of a stream also ends its last event. The standard drops such an event, but some servers leave out
the last blank line.

`Splitter` gives whole events with LF only, so that all later code can look for `BREAK`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from schemas.api import loose_json

CONTENT_TYPE = "text/event-stream"
BREAK = b"\n\n"
"""Ends every event."""
DONE = b"data: [DONE]\n\n"
"""Ends OpenAI's streams, except those of the responses API."""
LARGEST = 2**26
"""Bytes of one event. A picture in base64 must fit; an event that never ends must not."""
NOTHING = object()
"""What `load` returns for an event without data, such as a comment."""
_BOM = b"\xef\xbb\xbf"
_USUAL_END = b"\n" + DONE
_DONE_TO_END = len(b"[DONE]") + len(BREAK)
_DONE = re.compile(rb"^data:[ \t]*\[DONE\][ \t]*$", re.MULTILINE)
_DONE_SOMEHOW = re.compile(_DONE.pattern, re.MULTILINE | re.IGNORECASE)
_NAMED_LAST = rb"^event: ?(?:response\.(?:completed|incomplete|failed)|message_stop)\b"
_LAST = re.compile(rb"%b|%b" % (_DONE.pattern, _NAMED_LAST), re.MULTILINE)
"""Streams of the responses and messages APIs end with a named event, and without ``[DONE]``."""
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_LARGE = 256 * 1024
MOST_OBJECTS = 2**18
"""Lists and objects of the events that come at once, as each event is read in one go."""
_TAIL = 2048
"""Bytes of earlier events that are kept, so that `Splitter.tail` holds the last few events."""


class TooLong(ValueError):
    """An event of more than `LARGEST` bytes, or with more lists and objects than are taken."""


class Splitter:
    """Cuts a stream between events, so that a keep-alive comment fits between any two pieces.

    `feed` takes the bytes of one read and returns the events that are whole now, if any. `rest`
    returns what is left at the end of the stream.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = bytearray()
        self._last = b""
        self._half = b""
        self._begun = False
        self.finished = False
        """Whether ``[DONE]`` came."""

    def feed(self, chunk: bytes) -> bytes:
        """Raises TooLong for an event that does not end."""
        # Nearly all chunks need no change and no copy, so these cases are told apart first.
        if b"\r" in chunk or self._half or not self._begun:
            chunk = self._plain(chunk)
        cut = len(chunk) if chunk.endswith(BREAK) else chunk.rfind(BREAK) + 2
        # Without a break, rfind's -1 has become a 1.
        if cut < 2:  # the break may lie half in the last chunk and half in this one
            cut = int(self._rest.endswith(b"\n") and chunk.startswith(b"\n"))
        whole = chunk[:cut]
        if self._rest or cut < len(chunk):
            whole = self._kept(whole, chunk[cut:])
        if whole:
            if len(whole) > _LARGE and whole.count(b"[") + whole.count(b"{") > MOST_OBJECTS:
                raise TooLong(f"events with more than {MOST_OBJECTS} lists and objects at once")
            self._last = whole if len(whole) > _TAIL else self._last[-_TAIL:] + whole
        if self.finished or b"[DONE]" in whole or whole.endswith(b"[done]\n\n"):
            return self._up_to_end(whole)
        return whole

    def rest(self) -> bytes:
        """The last event, if only the stream's end ended it, with its break added; else b""."""
        left = self.left.replace(b"\r", b"\n")  # a last CR has waited for its LF
        self._rest.clear()
        self._half = b""
        if not left.strip():
            return b""
        whole = left.rstrip(b"\n") + BREAK
        self._last = self._last[-_TAIL:] + whole
        return self._up_to_end(whole)

    @property
    def tail(self) -> bytes:
        """The newest bytes; they hold at least the last event."""
        return self._last

    @property
    def left(self) -> bytes:
        """What has come of an event that is not whole."""
        return bytes(self._rest) + self._half

    def _up_to_end(self, whole: bytes) -> bytes:
        """Some servers say their end twice. What comes behind the first end is only in `tail`.
        Clients look for the end as OpenAI writes it, so it is written like that."""
        # Nearly all streams end so. A pattern that looks at each line took 5 % of a worker's time.
        if whole.endswith(_USUAL_END) and whole.find(b"[DONE]") == len(whole) - _DONE_TO_END:
            whole, self.finished = b"" if self.finished else whole, True
            return whole
        found = None if self.finished else _DONE_SOMEHOW.search(whole)
        if found is None:
            return b"" if self.finished else whole
        self.finished = True
        rest = whole[found.end() : whole.find(BREAK, found.end()) + len(BREAK)]
        return whole[: found.start()] + DONE.rstrip() + rest

    def _plain(self, chunk: bytes) -> bytes:
        """`chunk` without a byte order mark, and with LF for every end of line. If the chunk ends
        in a CR or in a part of the mark, these bytes wait for the next chunk."""
        chunk = self._half + chunk
        self._half = b""
        if not self._begun:
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._half = chunk
                return b""
            self._begun = True
            chunk = chunk.removeprefix(_BOM)
        if b"\r" not in chunk:
            return chunk
        if chunk.endswith(b"\r"):
            self._half, chunk = b"\r", chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _kept(self, whole: bytes, rest: bytes) -> bytes:
        """Put the kept bytes before `whole` (if it is not empty), and keep `rest`."""
        if whole:
            whole = bytes(self._rest) + whole
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._largest:
            raise TooLong(f"an event of more than {self._largest} bytes")
        return whole


class Joiner:
    """Joins events that arrive in several pieces, because the size of a frame is limited."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """The events that are whole now."""
        if not self._rest and piece.endswith(BREAK):
            return piece
        whole, found, self._rest = (self._rest + piece).rpartition(BREAK)
        return whole + found

    @property
    def empty(self) -> bool:
        """Whether no event is left that is not whole."""
        return not self._rest


def split(events: bytes) -> Iterator[bytes]:
    """Each of several whole events, without its break. A comment counts as an event."""
    return (event for event in events.split(BREAK) if event.strip(b"\n"))


def having(events: bytes, sign: bytes) -> Iterator[bytes]:
    """The events that contain `sign`, last event first, without their breaks."""
    at = len(events)
    while (found := events.rfind(sign, 0, at)) >= 0:
        before = events.rfind(BREAK, 0, found)
        at = before + len(BREAK) if before >= 0 else 0
        yield events[at:].partition(BREAK)[0]


def without_comments(events: bytes) -> bytes:
    """Several whole events, without the comments between and inside them."""
    if not events.startswith(b":") and b"\n:" not in events:  # true of nearly all
        return events
    plain = (
        b"\n".join(line for line in event.split(b"\n") if line and not line.startswith(b":"))
        for event in split(events)
    )
    return b"".join(event + BREAK for event in plain if event)


def name_of(event: bytes) -> str:
    """The name of one event; "" if it has none."""
    for line in event.split(b"\n"):
        if line.startswith(b"event:"):
            return line[6:].strip().decode(errors="replace")
    return ""


def data_of(event: bytes) -> bytes | None:
    """The data of one event; None if it has no data, such as a comment."""
    if event.startswith(b"data:") and b"\n" not in event:  # true of nearly all
        return event[5:].removeprefix(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if _is_data(line)]
    return b"\n".join(lines) if lines else None


def load(event: bytes) -> Any:
    """The JSON of one event; `NOTHING` if it has no data, or blank data, or is ``[DONE]``. Raises
    JSONDecodeError."""
    data = data_of(event)
    if data is None or not (said := data.strip()) or said == b"[DONE]":
        return NOTHING
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as refused:
        return loose_json.reread(data, refused)


def object_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object of one event; None if it has none."""
    try:
        found = load(event)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def typed(event: bytes) -> dict[str, Any]:
    """The JSON object of one event, with the event's name as its `type` unless it has a type of its
    own. Empty if the event has neither an object nor a name."""
    name = name_of(event)
    return {**({"type": name} if name else {}), **(object_of(event) or {})}


def is_whole(event: bytes) -> bool:
    """Whether the last event of a stream is complete, and not cut off."""
    try:
        # [DONE] is no JSON, and yet complete.
        return load(event) is not NOTHING or data_of(event) is not None
    except orjson.JSONDecodeError:
        return False


def objects(events: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among several whole events; everything else is skipped."""
    return (found for event in split(events) if (found := object_of(event)) is not None)


def begins(answer: bytes) -> bool:
    """Whether these are the first bytes of a stream of events, whatever type its head names."""
    return _BEGINNING.match(answer) is not None


def is_done(data: bytes) -> bool:
    return data.strip() == b"[DONE]"


def end_of(events: bytes) -> int:
    """Where the event that ends a stream of text begins; -1 if there is no such event."""
    if b"[DONE]" not in events and b"event:" not in events:  # far cheaper than the pattern
        return -1
    found = _LAST.search(events)
    if found is None:
        return -1
    before = events.rfind(BREAK, 0, found.start())
    return before + len(BREAK) if before >= 0 else 0


def write(data: bytes, name: str = "") -> bytes:
    """One event with its break."""
    head = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (head, data.replace(b"\n", b"\ndata: "))


def dump(event: Mapping[str, Any], named: bool = False) -> bytes:
    """One event with a JSON object. `named`: its `type` is the name (responses, messages)."""
    return write(orjson.dumps(event), str(event["type"]) if named else "")


def comment(text: str) -> bytes:
    return b": %b\n\n" % text.encode()


def _is_data(line: bytes) -> bool:
    return line.startswith(b"data:") or line == b"data"

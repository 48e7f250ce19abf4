"""The model's name: in answers as the client asked for it, in forms as the engine has it."""

from __future__ import annotations

import re

import orjson

from schemas import multipart
from schemas.api.sse import BREAK
from schemas.multipart import FormError
from workers.engines.base import Sink
from workers.engines.http.upstream import Filter
from workers.engines.openai.refusal import Refusal

_KEY = b'"model"'
_NONE = b"\0nothing begins or ends like this\0"
_FIELD = re.compile(
    rb'(?<!\\)"(?:model"\s*:\s*(?P<name>"[^"\\]*(?:\\.[^"\\]*)*")|(?:response|message)"\s*:\s*\{)',
    re.DOTALL,
)
"""A field `model` that is text, or an object that may have one: the responses API's events and
Anthropic's begin with it. A quote behind a backslash is inside a longer name."""
_INNER = b"<"
"""What stands for the opening bracket of such an object in an event."""
_NOT_SHAPE = bytes(sorted(set(range(256)) - set(b'"{}[]')))


class ModelName(Filter):
    """A Sink before the Sink: the model has the name that the client asked for. Gets whole events,
    or a whole document.

    Only the answer's own field is meant, not one of the same name in a tool's arguments or in
    metadata. Most events of a stream are alike before the field or behind it, and bytes that were
    the head or the tail of one event say how deep it stands in any (measured: 0.4 µs for an event
    without the field, 0.5 µs for one that has it, 6 µs for the first of a kind). Once an event has
    the right name, as where it is asked for by the engine's own, the others pass.
    """

    def __init__(self, inner: Sink, name: str) -> None:
        super().__init__(inner)
        self._name = orjson.dumps(name)
        self._head, self._our_head = _NONE, b""
        self._tail, self._our_tail = _NONE, b""
        self._right = False

    def data(self, chunk: bytes) -> None:
        if self._right:
            pass
        elif (chunk.endswith(self._tail) or chunk.startswith(self._head)) and (
            chunk.rfind(BREAK, 0, -2) < 0
        ):
            chunk = self._event(chunk)
        elif _KEY in chunk:
            if chunk[:1] in b"{ \t\r\n":
                chunk = self._document(chunk)
            elif chunk.endswith(BREAK):
                chunk = self._events(chunk)
        self._inner.data(chunk)

    def _events(self, events: bytes) -> bytes:
        """Several that came together."""
        at = events.find(BREAK) + len(BREAK)
        first = self._event(events[:at])
        if self._right:
            return events
        rest = events[at:].split(BREAK)[:-1]
        return first + b"".join([self._event(event + BREAK) for event in rest])

    def _document(self, document: bytes) -> bytes:
        start, end = _near_the_end(document)
        if not end:
            start, end, _ = _find(document, b"{")
        return document[:start] + self._name + document[end:] if end else document

    def _event(self, event: bytes) -> bytes:
        if event.endswith(self._tail):
            return event[: -len(self._tail)] + self._our_tail
        if event.startswith(self._head):
            return self._our_head + event[len(self._head) :]
        start, end, inner = _find(event, _INNER)
        if not end:
            return event
        self._right = event[start:end] == self._name
        head, tail = event[:start] + self._name, event[end:]
        self._head, self._our_head = event[:end], head
        if not inner:  # what is behind one that stands deeper does not tell in what it stands
            key = event.rindex(_KEY, 0, start) - 1  # the byte before it: it may be no backslash
            self._tail, self._our_tail = event[key:], head[key:] + tail
        return head + tail


def _near_the_end(document: bytes) -> tuple[int, int]:
    """(start, end) of the name, if it is in the second half; (0, 0) if not. Nothing needs to be
    read but what is behind it, where long answers and embeddings are before it."""
    at = document.rfind(_KEY, len(document) // 2)
    found = _FIELD.match(document, at) if at >= 0 else None
    if found is None or _open(b"{", document[found.end() :]):
        return 0, 0
    return found.span("name")


def _find(answer: bytes, inner: bytes) -> tuple[int, int, bool]:
    """(start, end, whether it stands in an inner object) of the name; (0, 0, False) for none.
    `inner`: the bracket that stands for the opening one of such an object."""
    opened, at = b"", 0
    for found in _FIELD.finditer(answer):
        opened = _open(opened, answer[at : found.start()])
        at = found.end()
        if found["name"] is None:
            opened += inner if opened == b"{" else b"{"
        elif opened in (b"{", b"{" + _INNER):
            return *found.span("name"), opened != b"{"
    return 0, 0, False


def _open(opened: bytes, text: bytes) -> bytes:
    """The brackets that are open behind `text`, which begins and ends outside of strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = text.translate(None, _NOT_SHAPE)
    left = opened + b"".join(shape.split(b'"')[::2])
    size = -1
    while size != len(left):
        size = len(left)
        left = left.replace(b"{}", b"").replace(b"[]", b"").replace(b"<}", b"")
    return left


def name_form(body: bytes, content_type: str, name: str) -> tuple[bytes, str]:
    """(body, content type) of a form whose field `model` is `name`. Raises Refusal."""
    try:
        parts = multipart.parse(body, content_type)
    except FormError as fault:
        raise Refusal(str(fault), param=fault.param) from None
    if [part.content for part in parts if part.name == "model"] == [name.encode()]:
        return body, content_type
    return multipart.put(parts, "model", name)

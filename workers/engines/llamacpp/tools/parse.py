"""Reads calls of functions out of a model's text, which comes in pieces cut anywhere. Pure.

The first call must be at the beginning of the answer. Text is held back only while it may still
become a call. See `prompt` for the form of calls.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from workers.engines.llamacpp.tools.prompt import CLOSE, OPEN, Expected

Delta = dict[str, Any]

_NAME = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")')
_HEAD = re.compile(_NAME.pattern + r'\s*,\s*"arguments"\s*:\s*(?=\S)')
_LAST = "} \t\r\n"
"""Characters that may belong to the end of the call, and not to its arguments."""


class Reader(Protocol):
    """Reads one choice."""

    @property
    def plain(self) -> bool:
        """Whether the rest of the choice is text."""

    @property
    def count(self) -> int:
        """The number of calls so far."""

    def feed(self, text: str) -> list[Delta]:
        """The deltas that are certain after this piece of text."""

    def end(self) -> list[Delta]:
        """The deltas for what was held back."""


class Written:
    """Reads calls between tags. All but complete calls of offered functions is text."""

    def __init__(self, expected: Expected) -> None:
        self.plain = False
        self.count = 0
        self._expected = expected
        self._held = ""
        self._seen = 0

    def feed(self, text: str) -> list[Delta]:
        self._held += text
        return self._read(last=False)

    def end(self) -> list[Delta]:
        return self._read(last=True)

    def _read(self, last: bool) -> list[Delta]:
        found: list[Delta] = []
        while not self.plain:
            begun = self._held.lstrip()
            if not begun.startswith(OPEN):
                if OPEN.startswith(begun) and not last:
                    return found
                # Blanks behind the last call are no text.
                self._held = self._held if begun or not self.count else ""
                break
            call = self._call(begun, last)
            if call is None:
                if not last:
                    return found
                break
            found.append(_opened(self.count, *call))
            self.count += 1
        self.plain = True
        text, self._held = self._held, ""
        return [*found, {"content": text}] if text else found

    def _call(self, begun: str, last: bool) -> tuple[str, str] | None:
        """Take the first call out of the held text. The arguments may contain a closing tag, so
        each closing tag is tried in turn."""
        start = len(OPEN)
        at = max(self._seen, start)
        while (end := begun.find(CLOSE, at)) >= 0:
            at = end + len(CLOSE)
            if call := self._made(begun[start:end]):
                self._held, self._seen = begun[at:], 0
                return call
        # The next piece may complete a closing tag of which the first letters are here.
        self._seen = max(at, len(begun) - len(CLOSE))
        call = self._made(begun[start:]) if last else None
        if call:
            self._held = ""
        return call

    def _made(self, text: str) -> tuple[str, str] | None:
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(found, dict) or found.get("name") not in self._expected.names:
            return None
        arguments = found.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        return found["name"], orjson.dumps(arguments).decode()


class Forced:
    """Reads one call, as JSON that a schema forced; its arguments pass as they come. In a document,
    the client's prefilled message may come before the call."""

    def __init__(self, expected: Expected) -> None:
        self.plain = False
        self.count = 0
        self._expected = expected
        self._whole = ""
        self._tail = ""

    def feed(self, text: str) -> list[Delta]:
        self._whole += text
        if self.count:
            return self._more(text)
        head = _HEAD.search(self._whole)
        if head is None:
            return []
        self.count = 1
        opened = _opened(0, orjson.loads(head[1]), "")
        found = [opened, *self._more(self._whole[head.end() :])]
        self._whole = self._whole[head.start() :]
        return found

    def end(self) -> list[Delta]:
        """The rest of the arguments; the token limit may have cut the call anywhere."""
        if not self.count:
            return self._begun()
        tail, self._tail = self._tail, ""
        try:
            orjson.loads(self._whole)
        except orjson.JSONDecodeError:
            return _added(tail)
        return _added(tail.rstrip()[:-1].rstrip())  # without the brace that closes the call

    def _more(self, text: str) -> list[Delta]:
        text = self._tail + text
        end = len(text.rstrip(_LAST))
        self._tail = text[end:]  # braces that may close the call: `end` knows
        return _added(text[:end])

    def _begun(self) -> list[Delta]:
        """A call without arguments, if its function is known."""
        names = self._expected.names
        told = _NAME.search(self._whole)
        if told is None and len(names) > 1:
            return []
        self.count = 1
        return [_opened(0, orjson.loads(told[1]) if told else names[0], "")]


class Either:
    """Reads one call as JSON, or an answer that is other JSON."""

    def __init__(self, expected: Expected) -> None:
        self.plain = False
        self._held = ""
        self._call = Forced(expected)
        self._is_call = False
        # Without blanks, which a grammar lets stand between the parts of JSON.
        self._heads = [_packed(f'{{"name":{_json(name)},"arguments":') for name in expected.names]

    @property
    def count(self) -> int:
        return self._call.count

    def feed(self, text: str) -> list[Delta]:
        if self._is_call:
            return self._call.feed(text)
        self._held += text
        if self.plain:
            return self.end()
        packed = _packed(self._held)
        self._is_call = any(packed.startswith(head) for head in self._heads)
        if self._is_call:
            return self._call.feed(self._held)
        if any(head.startswith(packed) for head in self._heads):
            return []
        return self.end()

    def end(self) -> list[Delta]:
        if self._is_call:
            return self._call.end()
        self.plain = True
        text, self._held = self._held, ""
        return [{"content": text}] if text else []


_READERS: Mapping[str, Callable[[Expected], Reader]] = {
    "written": Written,
    "forced": Forced,
    "either": Either,
}


def reader(expected: Expected) -> Reader:
    return _READERS[expected.form](expected)


def _opened(index: int, name: str, arguments: str) -> Delta:
    call = {
        "index": index,
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {"tool_calls": [call]}


def _added(arguments: str) -> list[Delta]:
    if not arguments:
        return []
    return [{"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}]


def _packed(text: str) -> str:
    return "".join(text.split())


def _json(text: str) -> str:
    return orjson.dumps(text).decode()

"""The name of a request's answer among those that are kept: requests have the same one if nothing
that may matter to their answers tells them apart. Pure.

What may matter is everything: fields that nobody here knows, the order of lists, each number as it
is written. Only the order of an object's fields and the blanks between them do not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from schemas.api.piecewise_write import written
from schemas.multipart import Part

_LETTERS = 40
_FORM = b"1"
"""Of names and entries: what has another one is not found."""
_LONG = re.compile(rb"[:\[,]\s*-?[0-9]{16}")
"""What may be a number that is read as another one: it has more digits than a float."""
_GOES_ON = re.compile(rb"\s*+-?[0-9]{16}")
"""The rest of that, if its beginning is before."""
_DIGITS = 17
_SHORT = 4096
"""Letters of a text, or ids, up to which it is written at once."""


class Terms(NamedTuple):
    """What an answer depends on beside the body. `account`: whose it is; "" if all share theirs.
    `served`: the model as it is resolved, `named` as the client did. `nodes`: those that may
    answer. `content_type`: without parameters."""

    account: str
    path: str
    served: str
    named: str
    route: str
    reach: str
    nodes: str
    content_type: str
    stream: bool
    lenient: bool


def name(terms: Terms, body: Iterable[bytes]) -> str:
    """One token of a subject."""
    return Name(terms).of(body)


class Name:
    """Names of several bodies under the same terms, and with the same beginning."""

    def __init__(self, terms: Terms, *beginning: bytes) -> None:
        self._begun = hashlib.sha256()
        for part in (_FORM, orjson.dumps([*terms]), *beginning):
            _add(self._begun, part)

    def of(self, body: Iterable[bytes]) -> str:
        found = self._begun.copy()
        for part in body:
            _add(found, part)
        return found.hexdigest()[:_LETTERS]

    def each(self, texts: Sequence[str | list[int]], names: list[str]) -> Iterator[None]:
        """Put the name of each text into `names`; stops behind each piece of work."""
        for text in texts:
            if len(text) <= _SHORT:
                names.append(self.of((plainly(text),)))
                yield
                continue
            parts = list[bytes]()
            for part in written(text):
                parts.append(part)
                yield
            found = self._begun.copy()
            found.update(b"%d:" % sum(map(len, parts)))
            for part in parts:
                found.update(part)
                yield
            names.append(found.hexdigest()[:_LETTERS])


def _add(to: Any, part: bytes) -> None:
    # With its length, so that no two rows of parts are written alike.
    to.update(b"%d:" % len(part))
    to.update(part)


def of_json(asked: Mapping[str, Any], body: bytes) -> tuple[bytes, ...]:
    """A request whose `body` was read as `asked`."""
    if is_odd(body):
        return as_it_is(body)
    return b"json", plainly(asked)


def plainly(value: Any) -> bytes:
    """A value of JSON, however its objects were ordered."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def is_odd(body: bytes) -> bool:
    """Whether `body` may say what is not in it any more once it is read."""
    return _LONG.search(body) is not None


def may_be_odd(body: bytes, start: int, stop: int) -> bool:
    """Whether the piece of `body` from `start` to `stop` may have a part of what makes it odd. If
    `body` is odd, this is true of at least one of its pieces."""
    if _GOES_ON.match(body, start, stop + _DIGITS):
        return True
    return _LONG.search(body, start, stop + _DIGITS) is not None


def as_it_is(body: bytes) -> tuple[bytes, ...]:
    return b"bytes", body


def of_form(parts: Iterable[Part]) -> Iterable[bytes]:
    """A form, whatever stands between its parts."""
    yield b"form"
    for part in parts:
        yield orjson.dumps([part.name, part.filename, part.content_type])
        yield part.content

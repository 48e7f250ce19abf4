"""Embeddings one by one: each text of a request has a kept answer of its own, so that a list with
one new text computes one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from schemas import bounds
from schemas.api.base import Document
from schemas.api.piecewise_write import written
from schemas.jobs import CodecError

INPUT = "input"


class Item(NamedTuple):
    """What is kept for one text. `tokens`: of it. `about`: what its answer said beside it. `entry`:
    its line of `data` without `index`, as JSON."""

    tokens: int
    about: Mapping[str, Any]
    entry: bytes


def texts(asked: Mapping[str, Any]) -> list[Any] | None:
    """The texts of a request, each as a text or as the ids of its tokens; None if it is in another
    form."""
    given = asked.get(INPUT)
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    kinds = set(map(type, given))
    if kinds == {int}:
        return [given]
    return given if kinds in ({str}, {list}) else None


def rest(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The request without its texts."""
    return {name: value for name, value in asked.items() if name != INPUT}


class Split:
    """`found`: the items of an answer to `texts`, once `pieces` has ended; None if it is not one
    line for each of them.

    An engine counts the tokens of all texts together. Each is taken to have its part by its length:
    then the sum is right of all that were asked together, and the count of one that was alone.
    """

    def __init__(self, texts: Sequence[Any], document: Document) -> None:
        self.found: list[Item] | None = None
        self._texts = texts
        self._document = document

    def pieces(self) -> Iterator[None]:
        """Takes apart, and stops behind each piece of work."""
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            yield from self._taken()

    def _taken(self) -> Iterator[None]:
        texts, document = self._texts, self._document
        lines = {line["index"]: line for line in document["data"]}
        if len(document["data"]) != len(texts) or {*lines} != {*range(len(texts))}:
            return
        total = int((document.get("usage") or {}).get("prompt_tokens") or 0)
        about = {name: value for name, value in document.items() if name not in ("data", "usage")}
        found = list[Item]()
        for number, tokens in enumerate(_shares(total, [*map(_length, texts)])):
            parts = list[bytes]()
            for part in written(_entry(lines[number])):
                parts.append(part)
                yield
            found.append(Item(tokens, about, b"".join(parts)))
        self.found = found


def together(items: Sequence[Item]) -> Iterator[bytes]:
    """The pieces of the answer that has these items in this order."""
    about = orjson.dumps(items[0].about)[1:-1]
    yield b"{" + (about + b"," if about else b"") + b'"data":['
    before = b""
    for number, item in enumerate(items):
        yield b'%b{"index":%d,%b' % (before, number, item.entry[1:])
        before = b","
    total = sum(item.tokens for item in items)
    usage = orjson.dumps({"prompt_tokens": total, "total_tokens": total})
    yield b'],"usage":%b}' % usage


def pack(item: Item) -> bytes:
    return orjson.dumps([item.tokens, item.about]) + b"\n" + item.entry


def unpack(data: bytes) -> Item:
    """Raises CodecError."""
    head, _, entry = data.partition(b"\n")
    try:
        tokens, about = orjson.loads(head)
    except (orjson.JSONDecodeError, TypeError, ValueError) as fault:
        raise CodecError(f"no kept embedding: {fault}") from None
    known = bounds.is_number(tokens, bounds.TOKENS) and isinstance(about, dict)
    if not (known and entry.startswith(b"{") and entry.endswith(b"}")):
        raise CodecError("no kept embedding: a field is missing, or has the wrong type")
    return Item(tokens, about, entry)


def unpack_all(bodies: Iterable[tuple[str, bytes]], to: dict[str, Item]) -> Iterator[None]:
    """Put the items that can be read into `to`, by their names."""
    for name, body in bodies:
        with suppress(CodecError):
            to[name] = unpack(body)
        yield


def _entry(line: Mapping[str, Any]) -> dict[str, Any]:
    """Raises KeyError for a line without a vector."""
    if not line["embedding"]:
        raise KeyError("embedding")
    return {name: value for name, value in line.items() if name != "index"}


def _length(text: str | list[int]) -> int:
    return len(text) if isinstance(text, list) or text.isascii() else len(text.encode())


def _shares(total: int, sizes: Sequence[int]) -> Iterable[int]:
    """`total` by `sizes`, in whole numbers whose sum it is."""
    whole, before, given = sum(sizes), 0, 0
    for size in sizes:
        before += size
        part = total * before // whole - given
        given += part
        yield part

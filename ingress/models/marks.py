"""Marks of a prompt, by which it is seen how much two prompts have in common from their beginnings.
Pure.

A mark is a checksum of all that stands before one place, and how many bytes that is. Places are the
ends of messages, and every `BLOCK` bytes within a long one. So the next turn of a conversation has
all marks of the turn before, and prompts that share a document have those within it. Two prompts
whose checksums agree by chance cost a look for a cache that is not there, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import orjson

from schemas.api import endpoints

BLOCK = 2048
"""Bytes of a long text between two marks; of its later parts more (`_next`)."""
_FINE = 16
"""Blocks of one text of that size: then each is an eighth of what stands before it."""
_BITS = 32
_SEED = (
    "system", "instructions", "tools", "functions", "lora", "chat_template_kwargs",
    "reasoning_effort", "response_format",
)  # fmt: skip
"""What else stands before the messages, or has an engine read all of them another way."""


def length(mark: int) -> int:
    """How many bytes stand before the place."""
    return mark >> _BITS


def of(path: str, asked: Mapping[str, Any], model: str) -> list[int]:
    """The marks of a request at an endpoint, in order; none if it has no prompt that an engine
    would keep. `model`: as it is served."""
    read = _READ.get(path)
    if read is None or asked.get("cache_prompt") is False:
        return []
    sum, found = crc32(model.encode()), list[int]()
    size = 0
    for name in _SEED:
        if (said := asked.get(name)) is not None:
            text = said.encode() if isinstance(said, str) else orjson.dumps(said)
            sum, size = _read_on(text, crc32(name.encode(), sum), size, found)
    for text, whole in read(asked):
        sum, size = _read_on(text, sum, size, found)
        if whole:
            found.append(size << _BITS | sum)
    return found


def _read_on(text: bytes, sum: int, size: int, found: list[int]) -> tuple[int, int]:
    """The checksum and the size behind `text`, whose marks go to `found`."""
    end, at, until = len(text), 0, BLOCK
    while until < end:
        sum = crc32(text[at:until], sum)
        found.append(size + until << _BITS | sum)
        at, until = until, _next(until)
    return crc32(text[at:], sum), size + end


def _next(at: int) -> int:
    return at + max(BLOCK, at // _FINE // BLOCK * BLOCK)


def _messages(asked: Mapping[str, Any]) -> Iterable[tuple[bytes, bool]]:
    """Each message, with its role before it."""
    return map(_message, _list(asked.get("messages")))


def _message(said: Any) -> tuple[bytes, bool]:
    if isinstance(said, dict) and len(said) == 2:
        content = said.get("content")
        if isinstance(content, str):
            return f"\0{said.get('role')}\0{content}".encode(errors="surrogatepass"), True
    return orjson.dumps(said), True


def _input(asked: Mapping[str, Any]) -> Iterable[tuple[bytes, bool]]:
    said = asked.get("input")
    return (
        [_message({"role": "user", "content": said})]
        if isinstance(said, str)
        else map(_message, _list(said))
    )


def _prompt(asked: Mapping[str, Any]) -> Iterable[tuple[bytes, bool]]:
    """A text may go on anywhere, so that its end is no place for a mark."""
    said = asked.get("prompt")
    if isinstance(said, str):
        return [(said.encode(errors="surrogatepass"), False)]
    return [(orjson.dumps(said), False)] if isinstance(said, list) else []


def _list(said: Any) -> Sequence[Any]:
    return said if isinstance(said, list) else ()


_READ: Mapping[str, Callable[[Mapping[str, Any]], Iterable[tuple[bytes, bool]]]] = {
    endpoints.CHAT.path: _messages,
    endpoints.MESSAGES.path: _messages,
    endpoints.RESPONSES.path: _input,
    endpoints.COMPLETIONS.path: _prompt,
}

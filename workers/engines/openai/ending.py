"""The end of an answer: whether a stream is whole, what it cost, and errors hidden inside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from schemas.api.sse import Splitter
from schemas.streams import LAST
from workers.engines.base import Between, EngineFault, Sink
from workers.engines.openai.usage import Usage, last_usage

_ERROR = re.compile(rb'^data: ?\{"error"', re.MULTILINE)
_HEAD = 4096
_LAST_OF_MEDIA = re.compile(
    rb'"type": ?"(?:transcript\.text\.done|image_generation\.completed|image_edit\.completed'
    rb'|speech\.audio\.done)"'
)
"""Of sounds and pictures; ``[DONE]`` may follow."""


def ended(events: Splitter) -> bool:
    """Whether the stream said that it is over. One that did not has failed, whoever sent it."""
    tail = events.tail
    return events.finished or any(last.search(tail) for last in (LAST, _LAST_OF_MEDIA))


class ErrorGuard(Between):
    """A Sink before the Sink: an error event fails the attempt instead of passing as an answer.

    vLLM sends ``data: {"error": …}`` and then, as if all were well, ``[DONE]``.
    """

    def __init__(self, inner: Sink, engine: str) -> None:
        super().__init__(inner)
        self._engine = engine
        self.head = b""
        """The first bytes: Anthropic's streams tell the prompt's tokens there, and only there."""

    def data(self, chunk: bytes) -> None:
        """Whole events only. Raises EngineFault at an error event."""
        self.head = self.head or chunk[:_HEAD]
        found = _ERROR.search(chunk) if b'{"error"' in chunk else None
        why = _message(chunk[found.start() :]) if found else ""
        if found is None or not why:
            self._inner.data(chunk)
            return
        if found.start():
            self._inner.data(chunk[: found.start()])
        raise EngineFault(f"{self._engine}: {why}")


def tokens_told(document: bytes) -> Usage | None:
    """What a JSON answer says it cost; None for other answers, and where it says nothing."""
    try:
        return _tokens(orjson.loads(document))
    except orjson.JSONDecodeError:
        return None


def tokens_of_stream(head: bytes, tail: bytes) -> Usage | None:
    """What the first and the last events of a stream say it cost."""
    if LAST.search(tail) is None:
        return last_usage(tail)
    told = _told_in(reversed(tail.split(b"\n")))
    if told is None or told.prompt >= 0:
        return told
    start = _told_in(head.split(b"\n"))
    return Usage(start.prompt, told.completion, start.cached) if start else told


def _told_in(lines: Iterable[bytes]) -> Usage | None:
    for line in lines:
        if line.startswith(b"data:") and b'"usage"' in line and (usage := tokens_told(line[5:])):
            return usage
    return None


def _tokens(found: Any) -> Usage | None:
    """OpenAI's words for it (chat, embeddings), the responses API's, or Anthropic's; `prompt` is
    -1 where only the answer was counted."""
    if not isinstance(found, dict):
        return None
    inner = found.get("response") or found.get("message")
    told = found.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
    if not isinstance(told, dict):
        return None
    details = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    prompt = _count(told, "prompt_tokens", _count(told, "input_tokens", -1))
    completion = _count(told, "completion_tokens", _count(told, "output_tokens", 0))
    # Anthropic's input_tokens are those that were not in the cache; OpenAI's are all.
    beside = _count(told, "cache_read_input_tokens", 0)
    cached = _count(details, "cached_tokens", 0) if isinstance(details, dict) else 0
    return Usage(prompt + beside, completion, beside or cached)


def _count(told: dict[str, Any], name: str, default: int) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else default


def _message(event: bytes) -> str:
    """What went wrong; empty for ``"error": null``."""
    line = event.partition(b"\n")[0].partition(b":")[2]
    try:
        error = orjson.loads(line)["error"]
    except orjson.JSONDecodeError:
        return "an error inside the stream"
    told = error.get("message", error) if isinstance(error, dict) else error
    return str(told) if told else ""

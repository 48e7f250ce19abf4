"""Mends llama-server's answers at ``/v1/messages``, so that they are as Anthropic documents them.

Measured on llama.cpp b11549 (held by `tests/acceptance/surface/test_anthropic.py`): a stream whose
first token is only part of a character (an emoji) has no ``message_start``. `stop_reason` is
``end_turn`` even if a stop sequence ended the text. A stream amounts to the unstreamed answer,
except that it does not repeat a prefilled message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas.api import sse
from schemas.api.base import Event
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter

Count = Callable[[], Awaitable[int]]

_START = b"event: message_start"
_STOPPED = b'"delta":{"stop_reason":"end_turn","stop_sequence":"'
_STOPPED_SO = b'"delta":{"stop_reason":"stop_sequence","stop_sequence":"'


def prepare(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request to send, which streams. The engine ignores ``tool_choice: none``, so the tools
    are taken out."""
    sent = {**request, "stream": True}
    if (request.get("tool_choice") or {}).get("type") == "none":
        sent.pop("tools", None)
    return sent


class StopReason(Filter):
    """A Sink before the Sink that puts the right `stop_reason` into a stream."""

    def data(self, chunk: bytes) -> None:
        self._inner.data(chunk.replace(_STOPPED, _STOPPED_SO))


class MessageStart(Filter):
    """A Sink before the Sink that makes a stream begin with ``message_start``. Once it is left, all
    that came has been passed on.

    The event reports the prompt's tokens. If it is missing, `count` asks the engine for them, which
    takes milliseconds, and the stream is held back until then. `counted`: the prompt's tokens, -1
    if the event was there.
    """

    def __init__(self, inner: Sink, name: str, model: str, count: Count) -> None:
        super().__init__(inner)
        self.counted = -1
        self._name = name
        self._model = model
        self._count = count
        self._held = bytearray()
        self._counting: asyncio.Task[None] | None = None
        self._open = False

    def data(self, chunk: bytes) -> None:
        if self._open:
            self._inner.data(chunk)
        # A comment may come before the first event, and waits for nothing.
        elif self._counting is None and chunk.startswith((_START, b":")):
            self._open = _START in chunk
            self._inner.data(chunk)
        else:
            self._held += chunk
            self._inner.touch()
            # In a task of its own: `data` must not wait.
            self._counting = self._counting or asyncio.create_task(self._begin())

    async def __aenter__(self) -> MessageStart:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *about: object) -> None:
        if self._counting is None:
            return
        try:
            if kind is None:
                await self._counting
        finally:
            self._counting.cancel()

    async def _begin(self) -> None:
        self.counted = await self._count()
        usage = {"input_tokens": self.counted, "output_tokens": 0, "cache_read_input_tokens": 0}
        message: Event = {
            "id": self._name,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        start = sse.dump({"type": "message_start", "message": message}, named=True)
        self._open = True
        self._inner.data(start + self._held)

"""llama-server's answers at ``/v1/messages``, as Anthropic documents them.

Measured on llama.cpp b11549 (held by `tests/acceptance/surface/test_anthropic.py`): a stream whose
first token is no whole character (an emoji) has no ``message_start``, and `stop_reason` is
``end_turn`` where a stop sequence ended the text. What its stream makes is what it answers
unstreamed, but that a prefilled message is not repeated.
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
    """The request to send: streamed; without tools if none may be called, as the engine passes over
    that choice; and without thoughts if none are wanted, which it looks for in the arguments of its
    chat template alone."""
    sent = {**request, "stream": True}
    if (request.get("tool_choice") or {}).get("type") == "none":
        sent.pop("tools", None)
    thinking = request.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") == "disabled":
        arguments = request.get("chat_template_kwargs") or {}
        sent["chat_template_kwargs"] = {"enable_thinking": False, **arguments}
    return sent


class StopReason(Filter):
    """A Sink before the Sink: a stream with the right `stop_reason`."""

    def data(self, chunk: bytes) -> None:
        self._inner.data(chunk.replace(_STOPPED, _STOPPED_SO))


class MessageStart(Filter):
    """A Sink before the Sink: a stream that begins with ``message_start``.

    That event tells the prompt's tokens. Where it is missing they are counted first (`count`), and
    what has come so far is held back: the engine counts within milliseconds. `counted`: the tokens,
    -1 if nothing was missing.
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
        elif self._counting is None and chunk.startswith((_START, b":")):
            self._open = _START in chunk
            self._inner.data(chunk)
        else:
            self._held += chunk
            self._inner.touch()
            self._counting = self._counting or asyncio.create_task(self._begin())

    async def done(self) -> None:
        """All that came has been passed on."""
        if self._counting is not None:
            await self._counting

    def stop(self) -> None:
        if self._counting is not None:
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

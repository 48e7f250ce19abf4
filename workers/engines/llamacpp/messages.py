"""Anthropic's event stream put together into the one document of a client that did not stream.

Measured on llama.cpp b11549, against what the engine answers unstreamed (held by
`tests/acceptance/test_anthropic_surface.py`): the same but for two things that Anthropic's API has
otherwise. A prefilled message is not repeated, and `stop_reason` is ``stop_sequence`` where a stop
sequence ended the text (the engine says ``end_turn``). A stream whose first token is no whole
character (an emoji) has no ``message_start`` there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from workers.engines.base import Between, Sink
from workers.engines.openai.rewrite import Event

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


class Mended(Between):
    """A Sink before the Sink: a stream with the right `stop_reason`."""

    def data(self, chunk: bytes) -> None:
        self._inner.data(chunk.replace(_STOPPED, _STOPPED_SO))


class Begun(Between):
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
        start = orjson.dumps({"type": "message_start", "message": message})
        self._open = True
        self._inner.data(b"event: message_start\ndata: %b\n\n%b" % (start, bytes(self._held)))


class Collected:
    """`document` is whole once ``message_stop`` came, and None before."""

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = None
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, list[str]] = {}

    def change(self, event: Event) -> None:
        match event.get("type"):
            case "message_start":
                self._message = event["message"]
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                self._message |= event["delta"]
                self._message["usage"] |= event.get("usage") or {}
            case "message_stop":
                self._finish()

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        """Every delta adds to the field of the block that it is named after."""
        block = self._blocks[index]
        for name, value in delta.items():
            if name == "partial_json":
                self._inputs.setdefault(index, []).append(value)
            elif isinstance(value, str) and name != "type":
                block[name] = block.get(name, "") + value

    def _finish(self) -> None:
        for index, block in self._blocks.items():
            if block["type"] == "tool_use":
                block["input"] = orjson.loads("".join(self._inputs.get(index, ())) or "{}")
        self._message["content"] = [self._blocks[index] for index in sorted(self._blocks)]
        if self._message.get("stop_sequence") and self._message["stop_reason"] == "end_turn":
            self._message["stop_reason"] = "stop_sequence"
        self.document = self._message

"""A structured answer as a stream: what finishes a text is held back until the text is judged.

The client has the words by then, as they cannot be taken back; what it never gets of an answer that
does not fit is the word that it is whole. An error event stands in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.errors import InvalidStructuredOutput

Judge = Callable[[Any], Awaitable[str]]
"""What is wrong with the texts of a whole answer, or ""."""
_BREAK = b"\n\n"


@dataclass(slots=True)
class _Choice:
    """What a stream has told so far of one choice."""

    text: list[str] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)
    """Calls and a refusal, which make a text none of ours to judge."""


class Held:
    """Of one stream: events go in, and come out whole if nothing is wrong with what they finish.
    `error` is set when something is: the rest of the stream is then left out, but for comments.

    A long event comes in several pieces, as frames have a limit.

    `limit`: bytes of text that are kept to be judged.
    """

    def __init__(self, judge: Judge, limit: int) -> None:
        self.error: InvalidStructuredOutput | None = None
        self._judge = judge
        self._left = limit
        self._rest = b""
        self._choices: dict[int, _Choice] = {}

    async def passed(self, events: bytes) -> bytes:
        """Those of `events` that the client may have."""
        going = []
        *whole, self._rest = (self._rest + events).replace(b"\r\n", b"\n").split(_BREAK)
        for event in filter(None, whole):
            if self.error is None and (why := await self._fault(event)):
                said = f"The model's answer was not what was asked for: {why}."
                self.error = InvalidStructuredOutput(said)
            if self.error is None or event.startswith(b":"):
                going.append(event + _BREAK)
        return b"".join(going)

    async def _fault(self, event: bytes) -> str:
        """What is wrong with what this event finishes."""
        try:
            data = _data(event)
            if data.get("type") == "response.completed":
                return await self._judge(data["response"])
            for finished in self._finished(data):
                if self._left < 0:
                    return "it is too long to be checked"
                if why := await self._judge({"choices": [finished]}):
                    return why
        except (AttributeError, KeyError, TypeError) as fault:
            return f"its stream has an event that is none: {type(fault).__name__}"
        return ""

    def _finished(self, chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The choices that this chunk ends, as a document has them."""
        for part in chunk.get("choices") or ():
            choice = self._choices.setdefault(part.get("index") or 0, _Choice())
            delta = part.get("delta") or {}
            self._keep(choice, delta)
            if reason := part.get("finish_reason"):
                message = {"content": "".join(choice.text), **choice.beside}
                yield {"finish_reason": reason, "message": message}

    def _keep(self, choice: _Choice, delta: dict[str, Any]) -> None:
        text = delta.get("content") or ""
        self._left -= len(text)
        if self._left >= 0:
            choice.text.append(text)
        choice.beside |= {
            name: delta[name] for name in ("tool_calls", "refusal") if delta.get(name)
        }


def _data(event: bytes) -> Any:
    """Of a comment, of [DONE], and of what is no JSON: nothing."""
    lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    try:
        return orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return {}

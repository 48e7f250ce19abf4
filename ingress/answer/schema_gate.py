"""A structured answer as a stream: the event that finishes a text waits until the text is judged.

By then the client has the words, and they cannot be taken back. But if the text does not fit, the
client never gets the event that says that the answer is whole. It gets an error event instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import orjson

from schemas.api import sse
from schemas.api.base import FinishedParts
from schemas.api.json_format import Finished
from schemas.errors import InvalidStructuredOutput

Misfit = Callable[[Iterable[Finished]], Awaitable[str]]
"""Says what is wrong with the first of these parts that does not fit, or ""."""


class SchemaGate:
    """Judges one stream: events go in, and come out if the texts that they finish fit. Once a text
    does not fit, `error` is set and only comments come out.

    A long event comes in several pieces, as frames have a limit, but comes out whole.
    """

    def __init__(self, misfit: Misfit, parts: FinishedParts) -> None:
        self.error: InvalidStructuredOutput | None = None
        self._misfit = misfit
        self._parts = parts
        self._joiner = sse.Joiner()

    async def passed(self, events: bytes) -> bytes:
        """The events that the client may have."""
        going = []
        for event in sse.split(self._joiner.feed(events)):
            if self.error is None and (why := await self._fault(event)):
                said = f"The model's answer was not what was asked for: {why}."
                self.error = InvalidStructuredOutput(said)
            if self.error is None or sse.data_of(event) is None:
                going.append(event + sse.BREAK)
        return b"".join(going)

    async def _fault(self, event: bytes) -> str:
        """What is wrong with the texts that this event finishes, or ""."""
        try:
            found = sse.load(event)
            finished = list(self._parts.add(found)) if isinstance(found, dict) else []
        except orjson.JSONDecodeError:
            return ""
        except (AttributeError, KeyError, TypeError) as fault:
            return f"its stream has an event that is none: {type(fault).__name__}"
        return await self._misfit(finished)

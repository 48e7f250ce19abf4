"""A structured answer as a stream: what finishes a text is held back until the text is judged.

The client has the words by then, as they cannot be taken back; what it never gets of an answer that
does not fit is the word that it is whole. An error event stands in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import orjson

from schemas.api import sse
from schemas.api.base import FinishedTexts
from schemas.errors import InvalidStructuredOutput

Misfit = Callable[[Iterable[str | None]], Awaitable[str]]
"""What is wrong with the first of these texts that is not as it has to be, or ""."""


class SchemaGate:
    """Of one stream: events go in, and come out whole if nothing is wrong with what they finish.
    `error` is set when something is: the rest of the stream is then left out, but for comments.

    A long event comes in several pieces, as frames have a limit.
    """

    def __init__(self, misfit: Misfit, texts: FinishedTexts) -> None:
        self.error: InvalidStructuredOutput | None = None
        self._misfit = misfit
        self._texts = texts
        self._joiner = sse.Joiner()

    async def passed(self, events: bytes) -> bytes:
        """Those of `events` that the client may have."""
        going = []
        for event in sse.split(self._joiner.feed(events)):
            if self.error is None and (why := await self._fault(event)):
                said = f"The model's answer was not what was asked for: {why}."
                self.error = InvalidStructuredOutput(said)
            if self.error is None or event.startswith(b":"):
                going.append(event + sse.BREAK)
        return b"".join(going)

    async def _fault(self, event: bytes) -> str:
        """What is wrong with what this event finishes."""
        try:
            found = sse.load(event)
            finished = list(self._texts.add(found)) if found is not sse.NOTHING else []
        except orjson.JSONDecodeError:
            return ""
        except (AttributeError, KeyError, TypeError) as fault:
            return f"its stream has an event that is none: {type(fault).__name__}"
        return await self._misfit(finished)

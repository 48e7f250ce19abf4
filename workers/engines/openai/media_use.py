"""What an answer about pictures or sounds used, in the units that people count. Tokens say little
of these, and most engines report none."""

from __future__ import annotations

from typing import Any

import orjson

from schemas import multipart
from schemas.api import endpoints, piecewise, sse
from schemas.jobs import Job
from workers.engines.base import Sink
from workers.engines.openai.request_body import aside
from workers.engines.openai.stream import Filter

HEARING = frozenset({endpoints.TRANSCRIPTIONS.path, endpoints.TRANSLATIONS.path})
"""Endpoints whose requests have a recording."""
_COUNTED = HEARING | {endpoints.SPEECH.path, endpoints.IMAGES.path, endpoints.EDITS.path}
_SECONDS = b'"seconds"'
"""In the usage of an engine that counts a recording by its length, as OpenAI does."""


class MediaUse(Filter):
    """Passes an answer on, and reads from it how long the recording was. `body`: the request's."""

    def __init__(self, inner: Sink, job: Job, body: bytes) -> None:
        super().__init__(inner)
        self._job = job
        self._body = body
        self._audio_ms = 0

    def data(self, chunk: bytes) -> None:
        if self._job.endpoint in HEARING and _SECONDS in chunk:
            self._audio_ms = _length(chunk) or self._audio_ms
        self._inner.data(chunk)

    async def found(self) -> dict[str, int]:
        """Fields of `schemas.frames.End`, of an answer that is whole. Images are those that were
        asked for."""
        match self._job.endpoint:
            case endpoints.SPEECH.path:
                said = (await piecewise.load(self._body)).get("input")
                return {"characters": len(str(said or ""))}
            case endpoints.IMAGES.path:
                return {"images": (await piecewise.load(self._body)).get("n") or 1}
            case endpoints.EDITS.path:
                return {"images": await aside(self._body, self._copies)}
        return {"audio_ms": self._audio_ms}

    def _copies(self) -> int:
        parts = multipart.parse(self._body, self._job.content_type)
        told = [part.content for part in parts if part.name == "n"]
        return int(told[-1]) if told and told[-1].isdigit() else 1


def meter(sink: Sink, job: Job, body: bytes) -> MediaUse | None:
    """None for an endpoint about texts."""
    return MediaUse(sink, job, body) if job.endpoint in _COUNTED else None


def _length(chunk: bytes) -> int:
    """Milliseconds that a usage in seconds tells; 0 if there is none. The last event of a stream
    has it."""
    found: Any = None
    try:
        found = [*sse.objects(chunk)][-1] if chunk[:1] != b"{" else orjson.loads(chunk)
        return max(0, round(float(found["usage"]["seconds"]) * 1000))
    except (ValueError, TypeError, LookupError, OverflowError):
        return 0

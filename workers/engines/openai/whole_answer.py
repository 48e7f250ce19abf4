"""Reads an engine's whole answer. One with status 200 may be something else: engines, and proxies
before them, send errors, web pages and half documents with it."""

from __future__ import annotations

from functools import partial

from schemas import multipart
from schemas.api import endpoints, loose_json, piecewise
from schemas.api.base import Document
from schemas.api.endpoints import Endpoint
from schemas.api.piecewise import NotJson, TooMany
from schemas.jobs import Job
from workers.engines.base import EngineFault
from workers.engines.openai.refusal import JSON, translate
from workers.engines.openai.request_body import aside

_TEXTS = frozenset({b"text", b"srt", b"vtt"})
"""Formats of transcripts that are no JSON."""
_PAGES = (b"<!doctype", b"<html")
_SHOWN = 300
"""Most letters of an answer that are shown in a message."""
_LOOKED_AT = 64 * 1024
"""Bytes of an answer that are looked at for them."""
_MENDED = 4 * 2**20
"""Most bytes of an answer that is mended, which is done in one go (measured: 40 ms a MiB)."""


async def read(
    engine: str, job: Job, request: bytes, content_type: str, body: bytes
) -> Document | None:
    """The JSON object of an answer to `job`; None if the answer is a sound or a text, as `request`
    (its body) asks for. Raises EngineFault, with what the engine said, for all that is no answer.
    """
    endpoint = endpoints.BY_PATH[job.endpoint]
    kind = content_type.partition(";")[0].strip().lower()
    if endpoint.holds is None:  # speech
        if not body or kind == JSON or kind.startswith("text/"):
            raise unlike(engine, f"{kind!r} in place of a sound", body)
        return None
    bare = kind != JSON and not body.lstrip().startswith(b"{")
    if (
        endpoint.form is not None
        and bare
        and await aside(request, partial(_wants_text, job, request))
    ):
        if kind == "text/html" or body.lstrip().lower().startswith(_PAGES):
            raise unlike(engine, "a page", body)
        return None
    return await _object(engine, endpoint, body)


async def read_mended(
    engine: str, job: Job, request: bytes, content_type: str, body: bytes
) -> tuple[Document | None, bytes]:
    """The same, and the answer's bytes, which are others if not every parser reads them."""
    try:
        return await read(engine, job, request, content_type, body), body
    except EngineFault:
        if len(body) > _MENDED or (mended := loose_json.mended(body)) is None:
            raise
    return await read(engine, job, request, content_type, mended), mended


def unlike(engine: str, what: str, body: bytes) -> EngineFault:
    """The fault for an answer that is `what` instead. Its message quotes the answer."""
    body = body[:_LOOKED_AT]
    said = translate(200, body).message[:_SHOWN] if body.strip() else "its answer is empty"
    return EngineFault(f"{engine} sent {what}: {said}")


async def _object(engine: str, endpoint: Endpoint, body: bytes) -> Document:
    try:
        found = await piecewise.load(body)
    except NotJson:
        raise unlike(engine, "something that is no JSON", body) from None
    except TooMany as fault:
        raise unlike(engine, f"an answer of more than {fault}", body) from None
    if not isinstance(found, dict):
        raise unlike(engine, "something that is no answer", body)
    if error := endpoint.api.failure(found):
        raise EngineFault(f"{engine}: {error.get('message') or error}")
    if endpoint.holds is not None and (missing := endpoint.holds.missing(found)):
        raise unlike(engine, f"an answer without {missing}", body)
    return found


def _wants_text(job: Job, request: bytes) -> bool:
    """Whether a recording is to become bare text or subtitles. In a stream, it may."""
    parts = multipart.parse(request, job.content_type)
    asked = [part.content for part in parts if part.name == "response_format"]
    return job.stream or not _TEXTS.isdisjoint(asked)

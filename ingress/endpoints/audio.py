"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``: speech to text.

The answer's content type is the worker's: each `response_format` has its own.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.binary import admit, work
from ingress.request import forms
from schemas.api.endpoints import TRANSCRIPTIONS, TRANSLATIONS, Endpoint
from schemas.api.media import GRANULARITIES

_FILE = frozenset({"file"})
_MEANING = {
    "temperature": forms.number,
    "stream": forms.flag,
    "translate": forms.flag,
    GRANULARITIES: forms.one_or_more,
}


async def transcribe(request: Request) -> Response:
    return await _hear(request, TRANSCRIPTIONS)


async def translate(request: Request) -> Response:
    return await _hear(request, TRANSLATIONS)


async def _hear(request: Request, endpoint: Endpoint) -> Response:
    caller = admit(request)
    form = await forms.read_form(request, caller.here.config.ingress.max_body)
    form.file("file")
    asked = endpoint.shape.check(form.fields(_FILE, _MEANING))
    return await work(caller, endpoint, asked, form.body, form.content_type)

"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``: speech to text.

The answer's content type is the worker's: each `response_format` has its own.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.binary import Work, admit, work
from ingress.request import forms
from schemas.api import TRANSCRIPTIONS
from schemas.api.audio import GRANULARITIES

_FIELDS = TRANSCRIPTIONS.fields
TRANSCRIBE = Work("/v1/audio/transcriptions", "transcriptions", _FIELDS)
TRANSLATE = Work("/v1/audio/translations", "translations", _FIELDS, {"translate": True})

_FILE = frozenset({"file"})
_MEANING = {
    "temperature": forms.number,
    "stream": forms.flag,
    "translate": forms.flag,
    GRANULARITIES: forms.one_or_more,
}


async def transcribe(request: Request) -> Response:
    return await _hear(request, TRANSCRIBE)


async def translate(request: Request) -> Response:
    return await _hear(request, TRANSLATE)


async def _hear(request: Request, kind: Work) -> Response:
    caller = admit(request)
    form = await forms.read_form(request, caller.here.config.ingress.max_body)
    form.file("file")
    asked = TRANSCRIPTIONS.check(form.fields(_FILE, _MEANING))
    return await work(caller, kind, asked, form.body, form.content_type)

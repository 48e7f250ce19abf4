"""``POST /v1/audio/speech``: text to speech.

The sound comes as one document, of the type that the engine names; with ``stream_format: sse`` its
pieces come as events.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.binary import admit, work
from ingress.http.body import need_json, read_body
from schemas.api.endpoints import SPEECH

_JSON = "application/json"


async def create(request: Request) -> Response:
    caller = admit(request)
    need_json(request)
    body = await read_body(request, caller.here.config.ingress.max_body)
    asked = SPEECH.shape.read(body)
    # Other requests say `stream`; the body goes on as it is.
    asked = {**asked, "stream": asked.get("stream_format") == "sse"}
    return await work(caller, SPEECH, asked, body, _JSON)

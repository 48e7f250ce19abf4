"""llama-server's own form of embeddings: a bare list, each text's vector within a list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer.headers import warn
from ingress.answer.reread import reread
from ingress.endpoints.inference import SUCCESS, admit, answer, read_json
from ingress.http.held import held_of
from schemas.api import embeddings
from schemas.api.base import NO_ANSWER
from schemas.api.endpoints import EMBEDDINGS
from schemas.api.piecewise_write import dump
from schemas.errors import EngineFailed

_NUMBERS = (
    f"encoding_format has no effect: vectors are numbers here, and texts at {EMBEDDINGS.path}"
)


async def serve(request: Request) -> Response:
    """Raises HeadraceError."""
    caller = admit(request)
    asked, body = await read_json(caller, EMBEDDINGS.shape)
    held_of(request).kept = True
    put = embeddings.from_own(asked)
    response = await answer(caller, EMBEDDINGS, put, body if put is asked else await dump(put))
    if asked.get("encoding_format") == "base64":
        warn(response, _NUMBERS)
    if response.status_code == SUCCESS:
        try:
            await reread(response, embeddings.as_own)
        except NO_ANSWER as fault:
            why = f"The engine's answer is none: {type(fault).__name__}."
            raise EngineFailed(why, source="engine") from None
    return response

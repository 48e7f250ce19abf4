"""Ranks in two forms: as they come, and in TEI's, a bare list for a request with `texts`."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer.reread import reread
from ingress.endpoints.inference import SUCCESS, admit, answer, read_json
from ingress.http.held import held_of
from schemas.api import rerank
from schemas.api.base import NO_ANSWER
from schemas.api.endpoints import RERANK
from schemas.api.piecewise_write import dump
from schemas.errors import EngineFailed


async def serve(request: Request) -> Response:
    """Raises HeadraceError."""
    caller = admit(request)
    asked, body = await read_json(caller, RERANK.shape)
    held_of(request).kept = True
    if not rerank.is_tei(asked):
        return await answer(caller, RERANK, asked, body)
    put = rerank.from_tei(asked)
    response = await answer(caller, RERANK, put, await dump(put))
    if response.status_code == SUCCESS:
        try:
            await reread(response, partial(rerank.as_tei, asked))
        except NO_ANSWER as fault:
            why = f"The engine's answer is none: {type(fault).__name__}."
            raise EngineFailed(why, source="engine") from None
    return response

"""``POST /v1/responses``, without memory: what came before is in `input`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress import dialects, structured
from ingress.endpoints.generation import Endpoint, serve
from schemas import openai

RESPONSES = Endpoint(
    path="/v1/responses",
    feature="responses",
    shape=openai.RESPONSES,
    dialect=dialects.RESPONSES,
    wants=structured.of_responses,
)


async def create(request: Request) -> Response:
    return await serve(request, RESPONSES)

"""``POST /v1/responses`` and ``/v1/responses/input_tokens``, without memory: what came before is in
`input`."""

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
INPUT_TOKENS = Endpoint(
    path="/v1/responses/input_tokens",
    feature="input_tokens",
    shape=openai.RESPONSES,
    streams=False,
)


async def create(request: Request) -> Response:
    return await serve(request, RESPONSES)


async def count(request: Request) -> Response:
    return await serve(request, INPUT_TOKENS)

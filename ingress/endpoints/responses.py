"""``POST /v1/responses`` and ``/v1/responses/input_tokens``, without memory: what came before is in
`input`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import schema
from ingress.endpoints.generation import Endpoint, serve
from ingress.http import error_format
from schemas import api

RESPONSES = Endpoint(
    path="/v1/responses",
    feature="responses",
    shape=api.RESPONSES,
    dialect=error_format.RESPONSES,
    wants=schema.of_responses,
)
INPUT_TOKENS = Endpoint(
    path="/v1/responses/input_tokens",
    feature="input_tokens",
    shape=api.RESPONSES,
    streams=False,
)


async def create(request: Request) -> Response:
    return await serve(request, RESPONSES)


async def count(request: Request) -> Response:
    return await serve(request, INPUT_TOKENS)

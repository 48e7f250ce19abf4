"""``POST /v1/completions``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.generation import Endpoint, serve
from schemas import api

COMPLETIONS = Endpoint(
    path="/v1/completions", feature="completions", shape=api.COMPLETIONS, chooses=True
)


async def create(request: Request) -> Response:
    return await serve(request, COMPLETIONS)

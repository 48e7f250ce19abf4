"""``POST /v1/embeddings``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.generation import Endpoint, serve
from schemas import api

EMBEDDINGS = Endpoint(
    path="/v1/embeddings", feature="embeddings", shape=api.EMBEDDINGS, streams=False
)


async def create(request: Request) -> Response:
    return await serve(request, EMBEDDINGS)

"""``POST /v1/rerank``, as Jina's and Cohere's APIs have it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.generation import Endpoint, serve
from schemas import api

RERANK = Endpoint(path="/v1/rerank", feature="rerank", shape=api.RERANK, streams=False)


async def create(request: Request) -> Response:
    return await serve(request, RERANK)

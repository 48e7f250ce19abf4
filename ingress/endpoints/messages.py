"""Anthropic's ``POST /v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.generation import Endpoint, serve
from ingress.http import error_format
from schemas import api

MESSAGES = Endpoint(
    path="/v1/messages",
    feature="messages",
    shape=api.MESSAGES,
    dialect=error_format.ANTHROPIC,
)
COUNT_TOKENS = Endpoint(
    path="/v1/messages/count_tokens",
    feature="count_tokens",
    shape=api.COUNT_TOKENS,
    streams=False,
    dialect=error_format.ANTHROPIC,
)


async def create(request: Request) -> Response:
    return await serve(request, MESSAGES)


async def count(request: Request) -> Response:
    return await serve(request, COUNT_TOKENS)

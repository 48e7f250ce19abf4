"""Anthropic's ``POST /v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress import dialects
from ingress.endpoints.generation import Endpoint, serve
from schemas import openai

MESSAGES = Endpoint(
    path="/v1/messages",
    feature="messages",
    shape=openai.MESSAGES,
    dialect=dialects.ANTHROPIC,
)
COUNT_TOKENS = Endpoint(
    path="/v1/messages/count_tokens",
    feature="count_tokens",
    shape=openai.COUNT_TOKENS,
    streams=False,
    dialect=dialects.ANTHROPIC,
)


async def create(request: Request) -> Response:
    return await serve(request, MESSAGES)


async def count(request: Request) -> Response:
    return await serve(request, COUNT_TOKENS)

"""``POST /v1/chat/completions``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import schema
from ingress.endpoints.generation import Endpoint, serve
from schemas import api

CHAT = Endpoint(
    path="/v1/chat/completions",
    feature="chat",
    shape=api.CHAT,
    chooses=True,
    wants=schema.of_chat,
)


async def create(request: Request) -> Response:
    return await serve(request, CHAT)

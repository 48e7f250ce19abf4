"""``POST /v1/chat/completions``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ingress import structured
from ingress.endpoints.generation import Endpoint, serve
from schemas import openai

CHAT = Endpoint(
    path="/v1/chat/completions",
    feature="chat",
    shape=openai.CHAT,
    chooses=True,
    wants=structured.of_chat,
)


async def create(request: Request) -> Response:
    return await serve(request, CHAT)

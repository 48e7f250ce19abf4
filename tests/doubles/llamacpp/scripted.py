"""llama-server on the wire, as far as its worker asks: its pages, and streams as a test says.

`streams`: by path, what is sent to a request that asks for a stream. `documents`: by path, (status,
body) of all others. An endpoint without either is one that the server was not started with.
`slots`: what it works on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from aiohttp import web

from tests.doubles.base import DONE, Sim, document, sse, stream

CHAT = "/v1/chat/completions"
CAPS = {"supports_tools": False, "supports_reasoning_effort": False}
ENDPOINTS = (
    CHAT,
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
)


def fault(status: int, message: str, kind: str = "invalid_request_error", **more: Any) -> Any:
    return status, {"error": {"code": status, "message": message, "type": kind, **more}}


OFF = fault(
    501, "This server does not support it. Start it with another flag", "not_supported_error"
)
EMPTY = fault(400, "'messages' is required")


def chunk(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"finish_reason": finish, "index": index, "delta": delta}
    return sse({"choices": [choice], "created": 1, "id": "c", "model": "own", **more})


class LlamaCpp(Sim):
    headers: ClassVar[Mapping[str, str]] = {"Server": "llama.cpp"}

    def __init__(self, model: str = "own") -> None:
        super().__init__()
        self.model = model
        self.props: dict[str, Any] = {
            "total_slots": 4,
            "default_generation_settings": {"n_ctx": 2048},
            "modalities": {"vision": False, "audio": False},
            "chat_template": "{{ messages }}",
            "chat_template_caps": dict(CAPS),
            "endpoint_slots": True,
        }
        self.entry: dict[str, Any] = {"meta": {"n_embd": 384}}
        self.documents: dict[str, tuple[int, Any]] = dict.fromkeys(ENDPOINTS, EMPTY)
        self.slots: Any = []
        self.streams: dict[str, list[bytes]] = {
            CHAT: [chunk({"role": "assistant", "content": None}), chunk({}, "stop"), DONE]
        }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/props", self._props),
            web.get("/slots", self._slots),
            web.get("/v1/models", self._models),
            web.post("/{path:.*}", self._job),
        ]

    def missing(self, fault_: web.HTTPException) -> web.Response:
        status, body = fault(404, "File Not Found", "not_found_error")
        return document(body, status)

    async def _props(self, request: web.Request) -> web.Response:
        return document(self.props)

    async def _slots(self, request: web.Request) -> web.Response:
        return document(self.slots)

    async def _models(self, request: web.Request) -> web.Response:
        return document({"object": "list", "data": [{"id": self.model, **self.entry}]})

    async def _job(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if body.get("stream") and request.path in self.streams:
            response = await stream(request, "text/event-stream")
            for piece in self.streams[request.path]:
                await response.write(piece)
            return response
        status, found = self.documents.get(request.path, OFF)
        return document(found, status)

"""What a test has the double of llama-server say, in the server's own shapes."""

from __future__ import annotations

from typing import Any

from tests.doubles.base import sse

CHAT = "/v1/chat/completions"
Document = tuple[int, Any]
"""(status, body)."""


def fault(status: int, message: str, kind: str = "invalid_request_error", **more: Any) -> Document:
    return status, {"error": {"code": status, "message": message, "type": kind, **more}}


def chunk(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """One event of a chat."""
    choice = {"finish_reason": finish, "index": index, "delta": delta}
    return sse({"choices": [choice], "created": 1, "id": "c", "model": "own", **more})


def usual() -> dict[str, Document]:
    """What a server of a chat model says at the endpoints of which it generates nothing here."""
    off = fault(501, "This server does not support it. Start it with --x", "not_supported_error")
    empty = fault(400, "'messages' is required")
    counts = ("/v1/messages/count_tokens", "/v1/chat/completions/input_tokens")
    endpoints = ("/v1/responses", "/v1/messages", *counts)
    return {**dict.fromkeys(endpoints, empty), "/v1/embeddings": off, "/v1/rerank": off}

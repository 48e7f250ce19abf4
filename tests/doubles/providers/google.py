"""Google's Gemini API: the OpenAI-compatible surface here, its own in `google_native`.

From ai.google.dev (OpenAI compatibility, generateContent, troubleshooting) and what its users
report: the compatible surface puts its errors into an array, refuses fields it does not know, tells
the usage so far in every chunk, and leaves the thinking out of `completion_tokens`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import document
from tests.doubles.providers import google_native, openai_images, words
from tests.doubles.providers.base import EXCHANGE
from tests.doubles.providers.chat import Dialect, Told
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send
from tests.doubles.providers.openai import OpenAI
from tests.doubles.providers.record import Exchange

MODELS = (
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.5-pro",
    "gemini-2.5-flash-image",
    "gemini-embedding-001",
    "imagen-4.0-generate-001",
)
_STATUS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request timed out. Please try again."),
}
_TYPES = "type.googleapis.com/google.rpc."
_BAD_KEY = "API key not valid. Please pass a valid API key."
_NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use "
    "API Key or other form of API consumer identity to call this API."
)


class Google(OpenAI):
    """`base_url` is for OpenAI's client; the native surface is at `url` + ``/v1beta``. `strangers`:
    fields of a chat that it does not know. `blocked`: words in a prompt that get it blocked;
    `unsafe`: those that end its answer halfway."""

    name: ClassVar[str] = "google"
    prefix: ClassVar[str] = "/v1beta/openai"
    known: ClassVar[Mapping[str, str]] = {name: name for name in MODELS}
    dialect: ClassVar[Dialect] = Dialect(
        prefix="", metering="each", details=False, thinking=False, opening=False, calls_whole=True
    )

    def __init__(self, *, key: str | None = None, models: tuple[str, ...] = ()) -> None:
        super().__init__(key=key, models=models)
        self.strangers = {"store", "reasoning", "metadata", "prompt_cache_key", "logit_bias"}
        self.blocked: set[str] = set()
        self.unsafe: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        images = web.post(f"{self.prefix}/images/generations", self._images)
        return [*self.texts(), images, *google_native.routes(self)]

    # Keys, limits, errors

    def secret(self, request: web.Request) -> str | None:
        """The compatible surface takes a bearer's alone."""
        bearer = super().secret(request)
        if request.path.startswith(self.prefix):
            return bearer
        return request.headers.get("x-goog-api-key") or request.query.get("key") or bearer

    def unauthorized(self, found: str | None) -> Refused:
        if found is None:
            return Refused(403, _NO_KEY)
        return Refused(400, _BAD_KEY, code="API_KEY_INVALID")

    def admit(self, request: web.Request) -> None:
        unnamed = self.key is not None and self.secret(request) is None
        if unnamed and request.path.startswith(self.prefix):
            raise Refused(400, "Missing or invalid Authorization header.")
        super().admit(request)

    def admit_tokens(self, model: str, tokens: int) -> None:
        super().admit_tokens(model.removeprefix("models/"), tokens)

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        found: Any = {"error": self.fault(refused, exchange.model)}
        streamed = exchange.path.endswith(":streamGenerateContent")
        array = streamed and exchange.query.get("alt") != "sse"
        if array or exchange.path.startswith(self.prefix):
            found = [found]
        raw = json.dumps(found, indent=2).encode()
        return document(raw, refused.status, "application/json; charset=UTF-8", b"\n")

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        status, message = _STATUS.get(refused.status, _STATUS[500])
        found: dict[str, Any] = {"code": refused.status, "status": status}
        found["message"] = refused.message or self._message(refused, model, message)
        details = self._details(refused, model)
        return {**found, "details": details} if details else found

    def _message(self, refused: Refused, model: str, usual: str) -> str:
        if refused.status == 404 and refused.code == "model_not_found":
            name = model.removeprefix("models/")
            return (
                f"models/{name} is not found for API version v1beta, or is not supported for "
                "generateContent. Call ListModels to see the list of available models and their "
                "supported methods."
            )
        return usual

    def _details(self, refused: Refused, model: str) -> list[dict[str, Any]]:
        if refused.code == "API_KEY_INVALID":
            info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            service = {"service": "generativelanguage.googleapis.com"}
            return [{"@type": f"{_TYPES}ErrorInfo", **info, "metadata": service}]
        if refused.status != 429:
            return []
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
            "quotaDimensions": {"location": "global", "model": model},
            "quotaValue": str(self.limits.requests),
        }
        found: list[dict[str, Any]] = [
            {"@type": f"{_TYPES}QuotaFailure", "violations": [violation]}
        ]
        if refused.retry_after is not None:  # in the body; there is no such header
            delay = f"{refused.retry_after:.9f}".rstrip("0").rstrip(".")
            found.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{delay}s"})
        return found

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        return {
            "Server": "scaffolding on HTTPServer2",
            "Server-Timing": "gfet4t7; dur=12",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
            "X-XSS-Protection": "0",
        }

    # The compatible surface

    def check_chat(self, asked: dict[str, Any]) -> None:
        for name in asked:
            if name in self.strangers:
                told = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                raise Refused(400, told)

    def compose(self, asked: Mapping[str, Any]) -> Told:
        told = super().compose(asked)
        said = words.last_user(asked["messages"]).split()
        if self.blocked & set(said):
            return Told([], "content_filter", n=told.n)
        if self.unsafe & set(said):
            half = told.pieces[: len(told.pieces) // 2]
            return Told(half, "content_filter", n=told.n)
        return told

    async def _images(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        said = str(asked.get("prompt") or "")
        if not said or asked.get("response_format") not in (None, "b64_json"):
            raise Refused(400)
        self.admit_tokens(exchange.model, len(said.split()))
        n = int(asked.get("n") or 1)
        raws = [openai_images.picture(said, at, "1024x1024") for at in range(n)]
        data = [{"b64_json": base64.b64encode(raw).decode()} for raw in raws]
        pieces = [Piece(0, "", steps=1, images=1) for _ in range(n)]
        flow = Flow(pieces, whole=lambda: {"data": data})
        return await send(self, request, flow, len(said.split()))

    def card(self, name: str) -> dict[str, Any]:
        return {"id": f"models/{name}", "object": "model", "owned_by": "google"}

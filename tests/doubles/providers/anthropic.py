"""Anthropic's API: messages, count_tokens, models, and its OpenAI-compatible chat.

From its API reference (errors, rate limits, streaming messages, OpenAI SDK compatibility). An
assistant message at the end is continued by the models up to 4.5; all later ones refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import document, sse
from tests.doubles.providers import chat, words
from tests.doubles.providers.anthropic_messages import Message
from tests.doubles.providers.base import EXCHANGE, FAULT
from tests.doubles.providers.chat import Dialect, Told
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import send
from tests.doubles.providers.openai import OpenAI
from tests.doubles.providers.record import Exchange

KNOWN = {
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    **{
        name: name
        for name in ("claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-5-5", "claude-sonnet-5-5")
    },
}
_KINDS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_NO_PREFILL = (
    "This model does not support assistant message prefill. The conversation must end with a "
    "user message."
)


class Anthropic(OpenAI):
    """`base_url` is for OpenAI's client, `url` for Anthropic's own. `continuing`: beginnings of
    the names of models that go on from an assistant message at the end."""

    name: ClassVar[str] = "anthropic"
    known: ClassVar[Mapping[str, str]] = KNOWN
    dialect: ClassVar[Dialect] = Dialect(prefix="msg_", details=False)
    continuing: tuple[str, ...] = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/messages", self._messages),
            web.post("/v1/messages/count_tokens", self._count),
            web.post("/v1/chat/completions", self._chat),
            web.get("/v1/models", self._models),
            web.get("/v1/models/{model:.+}", self._one_model),
        ]

    # Keys, limits, errors

    def secret(self, request: web.Request) -> str | None:
        return request.headers.get("x-api-key") or super().secret(request)

    def unauthorized(self, found: str | None) -> Refused:
        return Refused(401, "x-api-key header is required" if found is None else "")

    def admit(self, request: web.Request) -> None:
        super().admit(request)
        native = not request.path.endswith("/chat/completions")
        bearer = "x-api-key" not in request.headers
        if native and "anthropic-version" not in request.headers and not (bearer and not self.key):
            raise Refused(400, "anthropic-version: header is required")

    def admit_tokens(self, model: str, tokens: int) -> None:
        if model not in {*self.models, *self.models.values()}:
            raise Refused(404, f"model: {model}")
        super().admit_tokens(model if model in self.models else next(iter(self.models)), tokens)

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        if exchange.path.endswith("/chat/completions"):
            found: dict[str, Any] = {"error": {**self._told(refused), "param": None, "code": None}}
        else:
            found = {**self.event(refused), "request_id": request_id(exchange)}
        response = document(found, refused.status)
        if refused.retry_after is not None:
            response.headers["retry-after"] = str(math.ceil(refused.retry_after))
        return response

    def event(self, refused: Refused) -> dict[str, Any]:
        """An error as it stands in a stream too."""
        return {"type": "error", "error": self._told(refused)}

    def _told(self, refused: Refused) -> dict[str, str]:
        """`code` may name another type than the status's own."""
        kind, message = _KINDS.get(refused.status, _KINDS[500])
        named = {kind for kind, _ in _KINDS.values()}
        chosen = refused.code if refused.code in named else kind
        return {"type": str(chosen), "message": refused.message or message}

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        return {**self._told(refused), "param": None, "code": None}

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        limits = self.limits
        ends = datetime.now(UTC) + timedelta(seconds=limits.reset_s)
        reset = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        found = {"request-id": request_id(exchange), "anthropic-organization-id": "org-simulated"}
        for unit, limit, left in (
            ("requests", limits.requests, limits.requests_left),
            ("tokens", limits.tokens, limits.tokens_left),
            ("input-tokens", limits.tokens, limits.tokens_left),
            ("output-tokens", limits.tokens, limits.tokens_left),
        ):
            start = f"anthropic-ratelimit-{unit}"
            found |= {f"{start}-limit": str(limit), f"{start}-remaining": str(left)}
            found[f"{start}-reset"] = reset
        return found

    # Answers

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body
        self._check(asked, limited=True)
        prompt = _prompt(asked)
        self.admit_tokens(exchange.model, prompt)
        made = Message(self, asked, prompt, request[FAULT].metered)
        flow = made.flow(exchange.stream, lambda refused: sse(self.event(refused), "error"))
        exchange.used.stored = made.stored
        return await send(self, request, flow, prompt)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        asked = request[EXCHANGE].body
        self._check(asked, limited=False)
        return document({"input_tokens": _prompt(asked)})

    def _check(self, asked: Any, *, limited: bool) -> None:
        if not isinstance(asked, dict):
            raise Refused(400, "The request body is not valid JSON")
        for name in ("model", "messages", *(("max_tokens",) if limited else ())):
            if name not in asked:
                raise Refused(400, f"{name}: Field required")
        if not asked["messages"]:
            raise Refused(400, "messages: at least one message is required")
        for at, message in enumerate(asked["messages"]):
            if message.get("role") not in ("user", "assistant"):
                told = 'Input should be "user" or "assistant"'
                raise Refused(400, f"messages.{at}.role: {told}")
        self.prefill(asked)

    def prefill(self, asked: Mapping[str, Any]) -> str:
        """What the answer is to go on from. Raises Refused."""
        last = asked["messages"][-1]
        if last.get("role") != "assistant":
            return ""
        if not str(asked["model"]).startswith(self.continuing):
            raise Refused(400, _NO_PREFILL)
        text = words.text_of(last.get("content"))
        if text != text.rstrip():
            why = "messages: final assistant content cannot end with trailing whitespace"
            raise Refused(400, why)
        return text

    # The compatible surface

    def check_chat(self, asked: dict[str, Any]) -> None:
        if asked.get("n") not in (None, 1):
            raise Refused(400, "n: must be exactly 1")
        self.prefill(asked)

    def compose(self, asked: Mapping[str, Any]) -> Told:
        """`response_format` is ignored here; an answer goes on from the last message."""
        told = chat.compose(self, asked, format_held=False)
        begun = self.prefill(asked)
        if begun and not told.calls:
            told.pieces = words.continued(told.pieces, begun)
        return told

    async def _models(self, request: web.Request) -> web.Response:
        data = [self.card(name) for name in self.models.values()]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"], "has_more": False}
        return document({"data": data, **ends})

    def card(self, name: str) -> dict[str, Any]:
        found = {"type": "model", "id": name, "display_name": name}
        return {**found, "created_at": "2025-10-01T00:00:00Z"}


def request_id(exchange: Exchange) -> str:
    """The same in the header and in the body of an error."""
    return f"req_011C{exchange.connection:08x}{exchange.number:012x}"


def _prompt(asked: Mapping[str, Any]) -> int:
    return words.count(asked["messages"]) + words.count(asked.get("system") or "")

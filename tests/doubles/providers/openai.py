"""OpenAI's API: chat, completions, embeddings, models; media and responses in their own modules.

From the API reference (platform.openai.com/docs/api-reference, "Debugging requests" for the
headers), its rate limit and error code guides, and the OpenAPI description it publishes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import DONE, document, sse
from tests.doubles.providers import chat, openai_audio, openai_images, openai_responses, words
from tests.doubles.providers.base import EXCHANGE, FAULT, Provider, ident
from tests.doubles.providers.chat import Chat, Dialect
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send
from tests.doubles.providers.pace import duration
from tests.doubles.providers.record import Exchange
from tests.doubles.providers.vectors import embedding

ORGANIZATION = "org-simulated"
SITE = "https://platform.openai.com"
DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
KNOWN = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "o3-mini": "o3-mini-2025-01-31",
    "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct:20230824-v2",
    "omni-moderation-latest": "omni-moderation-2024-09-26",
    **{name: name for name in (*DIMENSIONS, *openai_images.MODELS, *openai_audio.MODELS)},
}
_FAILED = "The server had an error while processing your request. Sorry about that!"
_BUSY = "The engine is currently overloaded, please try again later."
_POOR = (
    "You exceeded your current quota, please check your plan and billing details. For more "
    f"information on this error, read the docs: {SITE}/docs/guides/error-codes/api-errors."
)
_INVALID = "invalid_request_error"


class OpenAI(Provider):
    """The base URL of a client is `base_url`, which ends with ``/v1``."""

    name: ClassVar[str] = "openai"
    prefix: ClassVar[str] = "/v1"
    known: ClassVar[Mapping[str, str]] = KNOWN
    dialect: ClassVar[Dialect] = Dialect(
        extra={"service_tier": "default", "system_fingerprint": "fp_51e1070cf2"}, padded=True
    )

    def routes(self) -> list[web.RouteDef]:
        return [
            *self.texts(),
            *openai_images.routes(self),
            *openai_audio.routes(self),
            *openai_responses.routes(self),
        ]

    def texts(self) -> list[web.RouteDef]:
        """Chat, completions, embeddings, moderations, models."""
        return [
            web.post(f"{self.prefix}/chat/completions", self._chat),
            web.post(f"{self.prefix}/completions", self._completions),
            web.post(f"{self.prefix}/embeddings", self._embeddings),
            web.post(f"{self.prefix}/moderations", self._moderations),
            web.get(f"{self.prefix}/models", self._models),
            web.get(self.prefix + "/models/{model:.+}", self._one_model),
        ]

    # Keys, limits, errors

    def admit(self, request: web.Request) -> None:
        if not request.path.startswith(openai_images.PICTURES):
            super().admit(request)

    def unauthorized(self, found: str | None) -> Refused:
        if found is None:
            why = "You didn't provide an API key. You need to provide your API key in an "
            way = "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). "
            return Refused(
                401, f"{why}{way}You can obtain an API key from {SITE}/account/api-keys."
            )
        shown = f"{found[:8]}{'*' * max(3, len(found) - 12)}{found[-4:]}"
        where = f"You can find your API key at {SITE}/account/api-keys."
        told = f"Incorrect API key provided: {shown}. {where}"
        return Refused(401, told, code="invalid_api_key")

    def admit_tokens(self, model: str, tokens: int) -> None:
        """Raises Refused if the model is unknown or the account's window is used up."""
        if model not in self.models:
            raise Refused(404, code="model_not_found", param=model)
        short = self.limits.take(tokens)
        if short:
            raise Refused(429, code=short, retry_after=self.limits.reset_s)

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        response = document({"error": self.fault(refused, exchange.model)}, refused.status)
        if refused.retry_after is not None:
            response.headers["retry-after"] = str(math.ceil(refused.retry_after))
            response.headers["retry-after-ms"] = str(round(refused.retry_after * 1000))
        return response

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        """The error object."""
        kind, code, message = self._kind(refused, model)
        param = None if code == "model_not_found" else refused.param
        return {
            "message": refused.message or message,
            "type": kind,
            "param": param,
            "code": code,
        }

    def _kind(self, refused: Refused, model: str) -> tuple[str, str | None, str]:
        """(type, code, message)."""
        match refused.status, refused.code:
            case 429, "insufficient_quota":
                return "insufficient_quota", "insufficient_quota", _POOR
            case 429, code:
                unit = "tokens" if code == "tokens" else "requests"
                return unit, "rate_limit_exceeded", self._limited(unit, model, refused)
            case 404, "path":
                return _INVALID, None, "Invalid URL"
            case 404, _:
                told = f"The model `{model}` does not exist or you do not have access to it."
                return _INVALID, "model_not_found", told
            case 503, code:
                return "server_error", code, _BUSY
            case status, code if status >= 500:
                return "server_error", code, _FAILED
            case _, code:
                return _INVALID, code, "Invalid request."

    def _limited(self, unit: str, model: str, refused: Refused) -> str:
        short, limit = ("TPM", self.limits.tokens) if unit == "tokens" else ("RPM", 500)
        if unit == "requests":
            limit = self.limits.requests
        wait = 1.0 if refused.retry_after is None else refused.retry_after
        told = f"Rate limit reached for {model} in organization {ORGANIZATION} on {unit} per min"
        used = f"({short}): Limit {limit}, Used {limit}, Requested 1."
        return f"{told} {used} Please try again in {wait:g}s."

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        limits, reset = self.limits, duration(self.limits.reset_s)
        return {
            "x-request-id": ident("req_", 16),
            "openai-processing-ms": str(round((time.monotonic() - exchange.at) * 1000)),
            "openai-organization": ORGANIZATION,
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": str(limits.requests),
            "x-ratelimit-limit-tokens": str(limits.tokens),
            "x-ratelimit-remaining-requests": str(limits.requests_left),
            "x-ratelimit-remaining-tokens": str(limits.tokens_left),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }

    # Answers

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body
        chat.check(asked)
        self.check_chat(asked)
        prompt = words.count(asked["messages"])
        self.admit_tokens(exchange.model, prompt)
        told = self.compose(asked)
        made = Chat(request, self, self.dialect, told, prompt)
        flow = made.flow(exchange.stream, self._event(exchange.model))
        return await send(self, request, flow, prompt)

    def compose(self, asked: Mapping[str, Any]) -> chat.Told:
        return chat.compose(self, asked)

    def check_chat(self, asked: dict[str, Any]) -> None:
        """What this provider refuses. Raises Refused."""
        if asked["model"].startswith(("o1", "o3", "o4", "gpt-5", "gpt-6")) and asked.get(
            "max_tokens"
        ):
            told = "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            end = "'max_completion_tokens' instead."
            raise Refused(400, told + end, code="unsupported_parameter", param="max_tokens")
        degree = asked.get("temperature")
        if isinstance(degree, int | float) and not 0 <= degree <= 2:
            wanted = "<= 2" if degree > 2 else ">= 0"
            kind = "above_max" if degree > 2 else "below_min"
            told = f"Invalid 'temperature': expected a value {wanted}, but got {degree} instead."
            code = f"decimal_{kind}_value"
            raise Refused(400, told, code=code, param="temperature")

    def _event(self, model: str) -> Any:
        return lambda refused: {"error": self.fault(refused, model)}

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        given = asked.get("prompt") or ""
        prompt = words.count(given)
        self.admit_tokens(exchange.model, prompt)
        prompts = given if isinstance(given, list) else [given]
        answers = [words.answer(words.text_of(one), self.pace.tokens) for one in prompts]
        limit = asked.get("max_tokens") or 16
        cuts = [words.cut_to(pieces, limit, asked.get("stop"))[:2] for pieces in answers]
        flow = self._text_flow(request, cuts, prompt)
        return await send(self, request, flow, prompt)

    def _text_flow(
        self, request: web.Request, cuts: list[tuple[list[str], str]], prompt: int
    ) -> Flow:
        exchange, metered = request[EXCHANGE], request[FAULT].metered
        options = exchange.body.get("stream_options") or {}
        base = {
            "id": ident("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.models[exchange.model],
        }
        output = sum(len(pieces) for pieces, _ in cuts)
        total = {"prompt_tokens": prompt, "completion_tokens": output}
        usage = {**total, "total_tokens": prompt + output}

        def choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
            ended = "stop" if reason == "stopped" else reason
            return {"text": text, "index": index, "logprobs": None, "finish_reason": ended}

        if not exchange.stream:
            choices = [choice(at, "".join(p), reason) for at, (p, reason) in enumerate(cuts)]
            found = {**base, "choices": choices, **({"usage": usage} if metered else {})}
            return Flow([Piece(1, p) for pieces, _ in cuts for p in pieces], whole=lambda: found)
        null = {"usage": None} if options.get("include_usage") else {}
        pieces = [
            Piece(1, piece, sse({**base, "choices": [choice(at, piece, None)], **null}))
            for at, (said, _) in enumerate(cuts)
            for piece in said
        ]
        tail = b"".join(
            sse({**base, "choices": [choice(at, "", reason)], **null})
            for at, (_, reason) in enumerate(cuts)
        )
        if options.get("include_usage") and metered:
            tail += sse({**base, "choices": [], "usage": usage})
        event = self._event(exchange.model)
        return Flow(pieces, b"", tail, DONE, error=lambda refused: sse(event(refused)))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        given = asked.get("input")
        if given is None or given in ("", []):
            raise Refused(400, "'$.input' is invalid. Please check the API reference.")
        single = isinstance(given, str) or (given and isinstance(given[0], int))
        inputs = [given] if single else given
        prompt = sum(len(i.split()) if isinstance(i, str) else len(i) for i in inputs)
        self.admit_tokens(exchange.model, prompt)
        size = asked.get("dimensions") or DIMENSIONS.get(exchange.model, 1024)
        packed = asked.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": at, "embedding": embedding(str(one), size, packed)}
            for at, one in enumerate(inputs)
        ]
        model = self.models[exchange.model]
        found: dict[str, Any] = {"object": "list", "data": data, "model": model}
        if request[FAULT].metered:
            found["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
        return await send(self, request, Flow([], whole=lambda: found), prompt)

    async def _moderations(self, request: web.Request) -> web.StreamResponse:
        """Free, so that it tells no usage. A text is flagged if it says so."""
        exchange = request[EXCHANGE]
        given = exchange.body["input"]
        texts = [given] if isinstance(given, str) else given
        results = [{"flagged": "violence" in text, "categories": {}} for text in texts]
        found = {"id": ident("modr-"), "model": self.models[exchange.model], "results": results}
        return await send(self, request, Flow([], whole=lambda: found), 0)

    async def _models(self, request: web.Request) -> web.Response:
        return document({"object": "list", "data": [self.card(name) for name in self.models]})

    async def _one_model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name not in self.models:
            request[EXCHANGE].model = name
            raise Refused(404, code="model_not_found", param=name)
        return document(self.card(name))

    def card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}

"""Cloudflare Workers AI: its OpenAI-compatible endpoints, and `run` for any model.

From developers.cloudflare.com/workers-ai (errors, OpenAI compatible API endpoints, models) and the
envelope of all its APIs: ``{"result", "success", "errors", "messages"}``.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import DONE, document, sse
from tests.doubles.providers import openai_audio, openai_images, words
from tests.doubles.providers.base import EXCHANGE, FAULT, ident
from tests.doubles.providers.chat import Dialect
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send
from tests.doubles.providers.openai import OpenAI
from tests.doubles.providers.record import Exchange
from tests.doubles.providers.vectors import embedding

ACCOUNT = "0123456789abcdef0123456789abcdef"
DIMENSIONS = {
    "@cf/baai/bge-small-en-v1.5": 384,
    "@cf/baai/bge-base-en-v1.5": 768,
    "@cf/baai/bge-large-en-v1.5": 1024,
    "@cf/baai/bge-m3": 1024,
}
PICTURES = (
    "@cf/black-forest-labs/flux-1-schnell",
    "@cf/stabilityai/stable-diffusion-xl-base-1.0",
)
HEARING = ("@cf/openai/whisper", "@cf/openai/whisper-large-v3-turbo")
TEXT = ("@cf/meta/llama-3.1-8b-instruct", "@cf/meta/llama-3.3-70b-instruct-fp8-fast")
_ERRORS = {
    400: (5006, "AiError: AiError: Bad input: Error: required properties are missing"),
    401: (10000, "Authentication error"),
    403: (5018, "The account is not allowed to access this model"),
    404: (7003, "Could not route to the path, perhaps your object identifier is invalid?"),
    405: (7001, "Method not allowed for this route"),
    408: (3007, "AiError: AiError: Request timeout"),
    413: (3006, "AiError: AiError: Request is too large"),
    429: (3040, "AiError: AiError: Capacity temporarily exceeded, please try again."),
    500: (3043, "AiError: AiError: Internal server error"),
}
_SPENT = (
    "AiError: AiError: you have used up your daily free allocation of 10,000 neurons, please "
    "upgrade to Cloudflare's Workers Paid plan if you would like to continue usage."
)


class Cloudflare(OpenAI):
    """`base_url` is for OpenAI's client, with `account` in it; `run_url` is before a model's name.
    A 429 is 3040 (no capacity), with ``code="3036"`` the spent allowance of the day."""

    name: ClassVar[str] = "cloudflare"
    account: ClassVar[str] = ACCOUNT
    prefix: ClassVar[str] = f"/client/v4/accounts/{ACCOUNT}/ai/v1"
    known: ClassVar[Mapping[str, str]] = {
        name: name for name in (*TEXT, *DIMENSIONS, *PICTURES, *HEARING)
    }
    dialect: ClassVar[Dialect] = Dialect(prefix="id-", metering="last", details=False)

    def routes(self) -> list[web.RouteDef]:
        run = web.post(self._run_path + "{model:.+}", self._run)
        search = web.get(self._run_path.removesuffix("run/") + "models/search", self._search)
        return [*self.texts(), run, search]

    @property
    def _run_path(self) -> str:
        return f"/client/v4/accounts/{self.account}/ai/run/"

    @property
    def run_url(self) -> str:
        return self.url + self._run_path

    # Keys, limits, errors

    def unauthorized(self, found: str | None) -> Refused:
        if found is None:
            told = "Missing X-Auth-Key, X-Auth-Email or Authorization headers"
            return Refused(400, told, code="9106")
        return Refused(401)

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        fault = self.fault(refused, exchange.model)
        status = 400 if refused.code == "model_not_found" else refused.status
        found = {"result": None, "success": False, "errors": [fault], "messages": []}
        if refused.code == "9106":  # refused by the gateway of all of Cloudflare's APIs
            found = {"success": False, "errors": [fault]}
        response = document(found, status)
        if refused.retry_after is not None:
            response.headers["retry-after"] = str(math.ceil(refused.retry_after))
        return response

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        code, message = _ERRORS.get(refused.status, _ERRORS[500])
        if refused.code == "model_not_found":
            code, message = 5007, f"AiError: AiError: No such model {model} or task"
        elif refused.code == "3036":
            code, message = 3036, _SPENT
        elif refused.code is not None and refused.code.isdigit():
            code = int(refused.code)
        return {"message": refused.message or message, "code": code}

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        return {"Server": "cloudflare", "CF-RAY": f"{ident('', 8)}-FRA", "cf-auditlog-id": ""}

    def _event(self, model: str) -> Any:
        def told(refused: Refused) -> dict[str, Any]:
            return {"errors": [self.fault(refused, model)], "success": False}

        return told

    # Answers

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        if not asked.get("input"):
            raise Refused(400)
        asked["dimensions"] = DIMENSIONS.get(exchange.model, 768)
        return await super()._embeddings(request)

    async def _search(self, request: web.Request) -> web.Response:
        found = [{"id": ident("", 16), "name": name, "source": 1} for name in self.models]
        return document(_good(found))

    async def _run(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        exchange.model = model = request.match_info["model"]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        if model in HEARING:
            return await self._hear(request, model, asked)
        given = asked.get("messages") or asked.get("text") or asked.get("prompt")
        prompt = words.count(given) if given else 0
        self.admit_tokens(model, prompt)
        if not given:
            raise Refused(400)
        if model in DIMENSIONS:
            flow = _embedded(given, DIMENSIONS[model])
        elif model in PICTURES:
            flow = _drawn(model, str(given))
        else:
            flow = self._said(request, asked, given, prompt)
        return await send(self, request, flow, prompt)

    def _said(self, request: web.Request, asked: dict[str, Any], given: Any, prompt: int) -> Flow:
        said = given if isinstance(given, str) else words.last_user(given)
        told, _, _ = words.cut_to(
            words.answer(said, self.pace.tokens), asked.get("max_tokens") or 256, ()
        )
        total = {"prompt_tokens": prompt, "completion_tokens": len(told)}
        usage = {"usage": {**total, "total_tokens": prompt + len(told)}}
        measured = usage if request[FAULT].metered else {}
        if not request[EXCHANGE].stream:
            found = _good({"response": "".join(told), "tool_calls": [], **measured})
            return Flow([Piece(1, piece) for piece in told], whole=lambda: found)
        pieces = [
            Piece(tokens, text, sse({"response": text, "p": ident("", 4)}))
            for tokens, text in words.grouped(told, self.pace.per_event)
        ]
        event = self._event(request[EXCHANGE].model)
        tail = sse({"response": "", **measured})
        return Flow(pieces, b"", tail, DONE, error=lambda refused: sse(event(refused)))

    async def _hear(
        self, request: web.Request, model: str, asked: dict[str, Any]
    ) -> web.StreamResponse:
        """`audio`: base64, or a list of bytes, or the body itself."""
        exchange = request[EXCHANGE]
        self.admit_tokens(model, 0)
        try:
            given = asked.get("audio", exchange.body)
            audio = base64.b64decode(given) if isinstance(given, str) else bytes(given or b"")
        except (binascii.Error, TypeError, ValueError):
            raise Refused(400, "AiError: AiError: Invalid audio", code="5004") from None
        pieces = words.answer(asked.get("initial_prompt") or openai_audio.heard(audio))
        text, seconds = "".join(pieces), openai_audio.seconds_of(audio)
        exchange.used.seconds = seconds
        info = {"language": "en", "language_probability": 1, "duration": seconds}
        segment = {"start": 0, "end": seconds, "text": text}
        result = {"text": text, "word_count": len(pieces), "segments": [segment]}
        found = _good({"transcription_info": info, **result})
        flow = Flow([Piece(0, piece, steps=1) for piece in pieces], whole=lambda: found)
        return await send(self, request, flow, 0)


def _good(result: Any) -> dict[str, Any]:
    return {"result": result, "success": True, "errors": [], "messages": []}


def _embedded(given: Any, size: int) -> Flow:
    texts = given if isinstance(given, list) else [given]
    data = [embedding(str(text), size, False) for text in texts]
    found = _good({"shape": [len(texts), size], "data": data, "pooling": "mean"})
    return Flow([], whole=lambda: found)


def _drawn(model: str, said: str) -> Flow:
    """FLUX gives base64 in the envelope, Stable Diffusion the bare picture."""
    raw = openai_images.picture(said, 0, "1024x1024")
    piece = Piece(0, "", steps=1, images=1)
    if "flux" in model:
        found = _good({"image": base64.b64encode(raw).decode()})
        return Flow([piece], whole=lambda: found)
    return Flow([piece], whole=lambda: web.Response(body=raw, content_type="image/png"))

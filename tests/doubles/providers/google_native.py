"""Gemini's own surface: generateContent, its stream, embeddings, Imagen's predict, models."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from tests.doubles.base import document
from tests.doubles.providers import openai_images, words
from tests.doubles.providers.base import EXCHANGE, FAULT, ident
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send
from tests.doubles.providers.vectors import embedding

if TYPE_CHECKING:
    from tests.doubles.providers.google import Google

PICTURE_TOKENS = 1290
"""Output tokens of one picture of gemini-2.5-flash-image (ai.google.dev, image generation)."""
SAFETY = [
    {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True},
]


def routes(sim: Google) -> list[web.RouteDef]:
    made = _Native(sim)
    path = "/v1beta/models/{model:[^:]+}:"
    return [
        web.post(f"{path}generateContent", made.generate),
        web.post(f"{path}streamGenerateContent", made.generate),
        web.post(f"{path}embedContent", made.embed),
        web.post(f"{path}predict", made.predict),
        web.get("/v1beta/models", made.models),
    ]


class _Native:
    def __init__(self, sim: Google) -> None:
        self._sim = sim

    async def models(self, request: web.Request) -> web.Response:
        methods = ["generateContent", "countTokens"]
        found = [
            {"name": f"models/{name}", "version": "001", "supportedGenerationMethods": methods}
            for name in self._sim.models
        ]
        return document({"models": found})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        asked, prompt = self._begin(request, "contents")
        exchange = request[EXCHANGE]
        made = _Content(self._sim, exchange.model, asked, prompt, request[FAULT].metered)
        if request.path.endswith(":generateContent"):
            return await send(self._sim, request, made.flow(None), prompt)
        exchange.stream = True
        events = request.query.get("alt") == "sse"
        return await send(self._sim, request, made.flow(_event if events else _item), prompt)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        asked, prompt = self._begin(request, "content")
        size = asked.get("outputDimensionality") or 3072
        values = embedding(words.text_of(asked["content"]), size, False)
        flow = Flow([], whole=lambda: {"embedding": {"values": values}})
        return await send(self._sim, request, flow, prompt)

    async def predict(self, request: web.Request) -> web.StreamResponse:
        asked, _ = self._begin(request, "instances")
        said = str(asked["instances"][0].get("prompt") or "")
        count = int((asked.get("parameters") or {}).get("sampleCount") or 4)
        raws = [openai_images.picture(said, at, "1024x1024") for at in range(count)]
        made = [
            {"mimeType": "image/png", "bytesBase64Encoded": base64.b64encode(raw).decode()}
            for raw in raws
        ]
        pieces = [Piece(0, "", steps=1, images=1) for _ in raws]
        flow = Flow(pieces, whole=lambda: {"predictions": made})
        return await send(self._sim, request, flow, len(said.split()))

    def _begin(self, request: web.Request, needed: str) -> tuple[dict[str, Any], int]:
        exchange = request[EXCHANGE]
        asked = exchange.body
        if not isinstance(asked, dict) or not asked.get(needed):
            raise Refused(400, f"* GenerateContentRequest.{needed}: {needed} is not specified\n")
        system = asked.get("systemInstruction") or asked.get("system_instruction")
        prompt = words.count(asked[needed]) + words.count(system or "")
        self._sim.admit_tokens(exchange.model, prompt)
        return asked, prompt


def _event(found: dict[str, Any], first: bool) -> bytes:
    """Google's event streams have lines that end with CR LF."""
    return b"data: " + orjson.dumps(found) + b"\r\n\r\n"


def _item(found: dict[str, Any], first: bool) -> bytes:
    """Without ``alt=sse`` a stream is one JSON array."""
    return (b"[" if first else b",\r\n") + orjson.dumps(found)


Form = Callable[[dict[str, Any], bool], bytes]


class _Content:
    """The candidates for one request."""

    def __init__(
        self, sim: Google, model: str, asked: dict[str, Any], prompt: int, metered: bool
    ) -> None:
        self._sim, self._model, self._prompt, self._metered = sim, model, prompt, metered
        self._id = ident("", 11)
        self._drawn = "image" in model
        said = words.last_user(asked["contents"])
        self._said = said
        self._blocked = bool(sim.blocked & set(said.split()))
        tools = [
            (one["name"], one.get("parameters"))
            for tool in asked.get("tools") or ()
            for one in tool.get("functionDeclarations") or ()
        ]
        self._calls = words.called(tools, _mode(asked), said)
        config = asked.get("generationConfig") or {}
        pieces = words.answer(said, sim.pace.tokens)
        if "json" in str(config.get("responseMimeType")):
            pieces = words.constrained(config.get("responseJsonSchema"))
        limit, stops = config.get("maxOutputTokens"), config.get("stopSequences")
        self._pieces, reason, _ = words.cut_to(pieces, limit, stops)
        self._reason = "MAX_TOKENS" if reason == "length" else "STOP"
        if sim.unsafe & set(said.split()):
            self._pieces, self._reason = self._pieces[: len(self._pieces) // 2], "SAFETY"

    def flow(self, form: Form | None) -> Flow:
        parts = [] if self._blocked else self._parts(1 if form is None else None)
        if form is None:
            pieces = [Piece(tokens, text, images=images) for tokens, text, _, images in parts]
            if not (self._calls or self._drawn or self._blocked):
                pieces = [Piece(1, piece) for piece in self._pieces]
            return Flow(pieces, whole=self._document)
        return self._stream(form, parts)

    def _stream(self, form: Form, parts: list[tuple[int, str, Any, int]]) -> Flow:
        sent, pieces = 0, []
        for at, (tokens, text, part, images) in enumerate(parts):
            sent += tokens
            reason = self._reason if at == len(parts) - 1 else None
            raw = form(self._told([part], reason, sent), at == 0)
            steps = 1 if images else None
            pieces.append(Piece(tokens, text, raw, steps, images))
        tail = form(self._document(), True) if self._blocked else b""
        done = b"]" if form is _item else b""

        def error(refused: Refused) -> bytes:
            return form({"error": self._sim.fault(refused, self._model)}, not sent)

        kind = "application/json; charset=UTF-8" if form is _item else "text/event-stream"
        return Flow(pieces, tail=tail, done=done, error=error, content_type=kind)

    def _parts(self, whole: int | None) -> list[tuple[int, str, Any, int]]:
        """(tokens, text, part, pictures) of each event."""
        if self._drawn:
            raw = openai_images.picture(self._said, 0, "1024x1024")
            data = {"mimeType": "image/png", "data": base64.b64encode(raw).decode()}
            return [(PICTURE_TOKENS, "", {"inlineData": data}, 1)]
        if self._calls:
            return [
                (len(pieces), "".join(pieces), _call(name, pieces), 0)
                for name, pieces in self._calls
            ]
        per = len(self._pieces) or 1 if whole else self._sim.pace.per_event
        grouped = words.grouped(self._pieces, per) or [(0, "")]
        return [(tokens, text, {"text": text}, 0) for tokens, text in grouped]

    def _document(self) -> dict[str, Any]:
        if self._blocked:
            feedback = {"blockReason": "SAFETY", "safetyRatings": SAFETY}
            found = {"promptFeedback": feedback, "modelVersion": self._model}
            usage = {"usageMetadata": self._usage(0)} if self._metered else {}
            return {**found, **usage, "responseId": self._id}
        parts = self._parts(1)
        sent = sum(tokens for tokens, *_ in parts)
        return self._told([part for _, _, part, _ in parts], self._reason, sent)

    def _told(self, parts: list[Any], reason: str | None, sent: int) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = reason
        if reason == "SAFETY":
            candidate["safetyRatings"] = SAFETY
        found: dict[str, Any] = {"candidates": [candidate]}
        if self._metered:
            found["usageMetadata"] = self._usage(sent)
        return {**found, "modelVersion": self._model, "responseId": self._id}

    def _usage(self, sent: int) -> dict[str, Any]:
        """`candidatesTokenCount` has none of the thoughts, `totalTokenCount` has them."""
        thoughts = 0 if self._blocked else self._sim.pace.reasoning
        cached = min(self._sim.pace.cached, self._prompt)
        found: dict[str, Any] = {
            "promptTokenCount": self._prompt,
            "candidatesTokenCount": sent,
            "totalTokenCount": self._prompt + sent + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": self._prompt}],
        }
        if self._drawn:
            found["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": sent}]
        if thoughts:
            found["thoughtsTokenCount"] = thoughts
        if cached:
            found["cachedContentTokenCount"] = cached
        return found


def _call(name: str, pieces: list[str]) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": orjson.loads("".join(pieces))}}


def _mode(asked: dict[str, Any]) -> str:
    config = (asked.get("toolConfig") or {}).get("functionCallingConfig") or {}
    return {"ANY": "required", "NONE": "none"}.get(str(config.get("mode")), "auto")

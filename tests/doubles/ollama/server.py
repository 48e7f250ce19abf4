"""Ollama, from its source (fb30760): its own API and its OpenAI endpoints, which translate to it.

    python -m tests.doubles.ollama.server --port 0 --token-ms 20

A word is a token. An answer repeats the last user message, up to `num_predict`. Faithful are the
faults: prompts over `num_ctx` are cut unless ``truncate`` is false, unknown fields are passed over,
ids are drawn from 999 numbers, and an error in the middle of a stream becomes an empty chunk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.base import document, main, stream
from tests.doubles.ollama import openai as v1
from tests.doubles.ollama.native import STAMP, Core, Model, NativeError, whole

JSON_GIN = "application/json; charset=utf-8"


class Ollama(Core):
    """`parallel`: OLLAMA_NUM_PARALLEL, `max_queue`: OLLAMA_MAX_QUEUE. `load_s`: a model's first
    request takes so much longer."""

    def __init__(self, *models: Model, parallel: int = 1, max_queue: int = 512) -> None:
        super().__init__(models or (Model("tiny:latest"),), parallel, max_queue)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._root),
            web.get("/api/version", self._version),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps),
            web.post("/api/show", self._show),
            web.post("/api/chat", self._own("message")),
            web.post("/api/generate", self._own("response")),
            web.post("/api/embed", self._embed),
            *v1.routes(self),
        ]

    def missing(self, fault: web.HTTPException) -> web.Response:
        text = b"405 method not allowed" if fault.status == 405 else b"404 page not found"
        return document(text, fault.status, "text/plain")

    # Pages

    async def _root(self, request: web.Request) -> web.Response:
        return document(b"Ollama is running", 200, "text/plain; charset=utf-8")

    async def _version(self, request: web.Request) -> web.Response:
        return document({"version": "0.16.0"}, 200, JSON_GIN)

    async def _tags(self, request: web.Request) -> web.Response:
        return document({"models": [_tag(m) for m in self.models.values()]}, 200, JSON_GIN)

    async def _ps(self, request: web.Request) -> web.Response:
        loaded = [
            {**_base(m), "expires_at": STAMP, "size_vram": 0, "context_length": m.num_ctx}
            for m in self.models.values()
            if m.loaded
        ]
        return document({"models": loaded}, 200, JSON_GIN)

    async def _show(self, request: web.Request) -> web.Response:
        asked = await _body(request)
        model = self.models.get(str(asked.get("model") or asked.get("name")))
        if model is None:
            return _error(404, f"model '{asked.get('model')}' not found")
        shown = {
            "modelfile": f"FROM {model.name}",
            **({"parameters": model.parameters} if model.parameters else {}),
            "template": "{{ .Prompt }}",
            "details": _base(model)["details"],
            "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
            "capabilities": list(model.capabilities),
            "modified_at": STAMP,
        }
        return document(shown, 200, JSON_GIN)

    # Its own API

    def _own(self, key: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            asked = await _body(request)
            try:
                chunks = self.generate(asked, key)
                if asked.get("stream") is False:
                    return document(await whole(chunks, key), 200, JSON_GIN)
                return await self._lines(request, chunks)
            except NativeError as fault:
                return _error(fault.status, fault.message)

        return handle

    async def _lines(
        self, request: web.Request, chunks: AsyncIterator[dict[str, Any]]
    ) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        try:
            async for chunk in chunks:
                response = response or await stream(request, "application/x-ndjson")
                await response.write(orjson.dumps(chunk) + b"\n")
        except NativeError as fault:
            if response is None:
                raise
            await response.write(orjson.dumps({"error": fault.message}) + b"\n")
        assert response is not None
        return response

    async def _embed(self, request: web.Request) -> web.Response:
        try:
            return document(await self.embed(await _body(request)), 200, JSON_GIN)
        except NativeError as fault:
            return _error(fault.status, fault.message)


def _base(model: Model) -> dict[str, Any]:
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    }
    named = {"name": model.name, "model": model.name}
    return {**named, "size": 91_000_000, "digest": "0" * 64, "details": details}


def _tag(model: Model) -> dict[str, Any]:
    remote = {"remote_model": model.name, "remote_host": model.remote} if model.remote else {}
    more = {"modified_at": STAMP, "capabilities": list(model.capabilities)}
    return {**_base(model), **remote, **more}


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    found = orjson.loads(raw) if raw else {}
    return found if isinstance(found, dict) else {}


def _error(status: int, message: str) -> web.Response:
    return document({"error": message}, status, JSON_GIN)


if __name__ == "__main__":
    embedding = Model("minilm:latest", ("embedding",), num_ctx=256)
    main(Ollama(Model("tiny:latest", ("completion", "tools", "vision")), embedding))

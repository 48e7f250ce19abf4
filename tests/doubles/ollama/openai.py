"""Ollama's OpenAI endpoints: each translates to its own API and its answers back."""

from __future__ import annotations

import base64
import binascii
import random
import struct
from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.base import DONE, document, sse, stream
from tests.doubles.ollama import history
from tests.doubles.ollama.events import CREATED, Messages, Responses, Text, Writer, usage_of
from tests.doubles.ollama.native import Core, NativeError, whole

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_NO_URLS = "image URLs are not currently supported, please use base64 encoded data instead"
_PICTURES = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp"))


def routes(server: Core) -> list[web.RouteDef]:
    handlers = Handlers(server)
    return [
        web.get("/v1/models", handlers.models),
        web.post("/v1/chat/completions", handlers.chat),
        web.post("/v1/completions", handlers.completions),
        web.post("/v1/embeddings", handlers.embeddings),
        web.post("/v1/responses", handlers.responses),
        web.post("/v1/messages", handlers.messages),
    ]


class Handlers:
    def __init__(self, server: Core) -> None:
        self._server = server

    async def models(self, request: web.Request) -> web.Response:
        data = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "library"}
            for name in self._server.models
        ]
        return document({"object": "list", "data": data}, end=b"\n")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked, fault = await _read(request, "ChatCompletionRequest")
        if fault is not None:
            return fault
        if not asked.get("messages"):
            return _error(400, "[] is too short - 'messages'")
        try:
            native = _native_chat(asked)
        except ValueError as problem:
            return _error(400, str(problem))
        head = {"id": f"chatcmpl-{random.randrange(999)}", "model": str(asked.get("model"))}
        chunks = self._server.generate(native, "message")
        return await self._answer(request, asked, chunks, _Chat(head, _usage_wanted(asked)))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        asked, fault = await _read(request, "CompletionRequest")
        if fault is not None:
            return fault
        native = {"model": asked.get("model"), "prompt": asked.get("prompt") or ""}
        native["options"] = _options(asked)
        head = {"id": f"cmpl-{random.randrange(999)}", "model": str(asked.get("model"))}
        chunks = self._server.generate(native, "response")
        return await self._answer(request, asked, chunks, Text(head, _usage_wanted(asked)))

    async def embeddings(self, request: web.Request) -> web.Response:
        asked, fault = await _read(request, "EmbedRequest")
        if fault is not None:
            return fault
        if asked.get("input") in (None, []):
            return _error(400, "invalid input")
        try:
            found = await self._server.embed({k: v for k, v in asked.items() if k != "truncate"})
        except NativeError as problem:
            return _error(problem.status, problem.message)
        packed = asked.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "embedding": _packed(v) if packed else v, "index": i}
            for i, v in enumerate(found["embeddings"])
        ]
        count = found["prompt_eval_count"]
        usage = {"prompt_tokens": count, "total_tokens": count}
        listed = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
        return document(listed, end=b"\n")

    async def responses(self, request: web.Request) -> web.StreamResponse:
        asked, fault = await _read(request, "ResponsesRequest")
        if fault is not None:
            return fault
        try:
            messages = history.of_items(asked.get("input"))
        except ValueError as problem:
            return _error(400, str(problem))
        options = {"num_predict": asked.get("max_output_tokens", -1)}
        native = {"model": asked.get("model"), "messages": messages, "options": options}
        chunks = self._server.generate(native, "message")
        return await self._answer(request, asked, chunks, Responses(asked))

    async def messages(self, request: web.Request) -> web.StreamResponse:
        asked, fault = await _read(request, "MessagesRequest")
        if fault is not None:
            return fault
        try:
            history.check_messages(asked)
        except ValueError as problem:
            return _error(400, str(problem), anthropic=True)
        options = {"num_predict": asked.get("max_tokens", -1)}
        native = {"model": asked.get("model"), "messages": asked.get("messages") or []}
        chunks = self._server.generate({**native, "options": options}, "message")
        return await self._answer(request, asked, chunks, Messages(asked), anthropic=True)

    async def _answer(
        self,
        request: web.Request,
        asked: dict[str, Any],
        chunks: AsyncIterator[dict[str, Any]],
        writer: Writer,
        anthropic: bool = False,
    ) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        try:
            if not asked.get("stream"):
                found = await whole(chunks, writer.key)
                return document(writer.document(found), end=b"\n")
            async for chunk in chunks:
                response = response or await stream(request, "text/event-stream")
                await response.write(writer.chunk(chunk))
        except NativeError as fault:
            if response is None:
                return _error(fault.status, fault.message, anthropic)
            await response.write(writer.chunk({"error": fault.message}))
        assert response is not None
        return response


class _Chat(Writer):
    def __init__(self, head: dict[str, str], usage: bool) -> None:
        self._head, self._usage = head, usage
        self._begun = self._called = False

    def document(self, found: dict[str, Any]) -> dict[str, Any]:
        message = dict(found["message"])
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [_call(call) for call in calls]
        reason = "tool_calls" if calls else found["done_reason"]
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {**self._top("chat.completion", [choice], found), "usage": usage_of(found)}

    def chunk(self, found: dict[str, Any]) -> bytes:
        message = found.get("message") or {}
        calls = [_call(call) for call in message.get("tool_calls", ())]
        text = message.get("content", "")
        out = b""
        if not (found.get("done") and self._begun and not text and not calls):
            delta: dict[str, Any] = {} if self._begun else {"role": "assistant"}
            delta["content"] = text
            if calls:
                delta["tool_calls"] = calls
                self._called = True
            out = sse(self._choice(delta, None, found))
            self._begun = True
        return out + self._end(found) if found.get("done") else out

    def _end(self, found: dict[str, Any]) -> bytes:
        reason = found["done_reason"]
        called = reason == "stop" and self._called
        out = sse(self._choice({}, "tool_calls" if called else reason, found))
        if self._usage:
            top = self._top("chat.completion.chunk", [], found)
            out += sse({**top, "usage": usage_of(found)})
        return out + DONE

    def _choice(
        self, delta: dict[str, Any], reason: str | None, found: dict[str, Any]
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self._top("chat.completion.chunk", [choice], found)

    def _top(self, kind: str, choices: list[Any], found: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._head["id"],
            "object": kind,
            "created": CREATED,
            "model": found.get("model", ""),
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        }


async def _read(request: web.Request, kind: str) -> tuple[dict[str, Any], web.Response | None]:
    try:
        asked = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return {}, _error(400, "invalid character in JSON")
    for name, types in {"prompt": str, "max_tokens": int, "n": object}.items():
        value = asked.get(name)
        if value is not None and not isinstance(value, types):
            go = {list: "array", dict: "object", str: "string", int: "number"}[type(value)]
            where = f"Go struct field {kind}.{name} of type {types.__name__.rstrip('r')}"
            return {}, _error(400, f"json: cannot unmarshal {go} into {where}")
    return asked, None


def _native_chat(asked: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError with Ollama's words."""
    messages: list[dict[str, Any]] = []
    for message in asked["messages"]:
        content, role = message.get("content"), message.get("role")
        calls = history.calls(message)
        if isinstance(content, list):
            messages += [_part(part, role) for part in content]
        elif isinstance(content, str) or calls:
            messages.append({"role": role, "content": content or ""})
        else:
            kind = "<nil>" if content is None else "map[string]interface {}"
            raise ValueError(f"invalid message content type: {kind}")
        if calls and messages:
            messages[-1]["tool_calls"] = calls
    form = asked.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema")
    kinds = {"json_object": "json", "json_schema": schema}
    kind = str(form.get("type"))
    native = {"model": asked.get("model"), "messages": messages, "options": _options(asked)}
    return {**native, "tools": asked.get("tools"), "format": kinds.get(kind)}


def _part(part: Any, role: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise ValueError("invalid message format")
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"role": role, "content": part["text"]}
    if part.get("type") != "image_url":
        raise ValueError("invalid message format")
    url = part["image_url"]["url"]
    if url.startswith(("http://", "https://")):
        raise ValueError(_NO_URLS)
    data = next((url[len(start) :] for start in _PICTURES if url.startswith(start)), None)
    try:
        picture = base64.b64decode(data or "", validate=True)
    except binascii.Error:
        picture = b""
    if not picture:
        raise ValueError("invalid image input")
    return {"role": role, "content": "", "images": [len(picture)]}


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """Only these are looked at: `max_completion_tokens`, `n` and the rest are not there."""
    found: dict[str, Any] = {"temperature": asked.get("temperature", 1.0)}
    if asked.get("max_tokens") is not None:
        found["num_predict"] = asked["max_tokens"]
    stop = asked.get("stop")
    if stop is not None:
        found["stop"] = [stop] if isinstance(stop, str) else stop
    return found


def _call(native: dict[str, Any]) -> dict[str, Any]:
    function = native["function"]
    arguments = orjson.dumps(function["arguments"]).decode()
    named = {"name": function["name"], "arguments": arguments}
    return {"id": native["id"], "index": 0, "type": "function", "function": named}


def _usage_wanted(asked: dict[str, Any]) -> bool:
    return bool((asked.get("stream_options") or {}).get("include_usage"))


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _error(status: int, message: str, anthropic: bool = False) -> web.Response:
    kind = _TYPES.get(status, "api_error")
    if anthropic:
        kind = "overloaded_error" if status == 503 else kind
        said = {"type": "error", "error": {"type": kind, "message": message}}
        return document({**said, "request_id": "req_123456"}, status, end=b"\n")
    error = {"message": message, "type": kind, "param": None, "code": None}
    return document({"error": error}, status, end=b"\n")

"""The test double that ships: no model, but every behaviour of one, at a pace that is set.

``echo://?model=echo&slots=4&first_ms=0&token_ms=0``. The answer is the words of the last user
message, over and over until `max_tokens` (without it, once). A request's own field ``echo`` sets
pace and faults for that request alone::

    {"echo": {"first_ms": 50, "token_ms": 10, "fault": "cut", "at": 3}}

Faults, after `at` tokens: ``cut`` (the stream ends without [DONE]), ``hang`` (nothing more comes,
and the engine does not answer probes), ``error`` (an error event), ``exit`` (the process dies);
before the head: ``400``, ``500``, ``503``.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from schemas import settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel
from workers.engines.base import EngineFault, Offer, Sink

JSON = "application/json"
CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Pace:
    first_ms: float = 0.0
    token_ms: float = 0.0
    fault: str = ""
    at: int = 0


class EchoEngine:
    kind = "echo"

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        query = {key: values[-1] for key, values in parse_qs(urlsplit(config.url).query).items()}
        self._models = tuple(config.models or query.get("model", "echo").split(","))
        self._slots = config.slots or int(query.get("slots", "4"))
        self._pace = Pace(float(query.get("first_ms", "0")), float(query.get("token_ms", "0")))
        self._hung = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def discover(self) -> Offer:
        return Offer(
            self._slots,
            tuple(
                ServedModel(model, self.name, self.kind, self._slots, CONTEXT)
                for model in self._models
            ),
        )

    async def check(self) -> None: ...

    async def probe(self) -> bool:
        return not self._hung

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        request = orjson.loads(body)
        pace = self._paced(request)
        if pace.fault.isdigit():
            return _refuse(int(pace.fault), sink)
        words = _words(request)
        answer = _Answer(job, request, words)
        limit = request.get("max_tokens") or request.get("max_completion_tokens") or len(words)
        if len(words) > CONTEXT:
            return _refuse(400, sink, "context_length_exceeded")
        await _wait(pace.first_ms)
        if job.stream:
            sink.start(200, "text/event-stream")
            sink.data(answer.head())
        for index in range(limit):
            await self._fault(pace, index, sink)
            await _wait(pace.token_ms)
            piece = answer.add(index)
            if job.stream:
                sink.data(piece)
            else:
                sink.touch()
        await self._fault(pace, limit, sink)
        if not job.stream:
            sink.start(200, JSON)
        sink.data(answer.tail())
        took = round((time.monotonic() - began) * 1000)
        return End(len(words), limit, 0, took)

    def _paced(self, request: dict[str, Any]) -> Pace:
        own = request.get("echo") or {}
        return Pace(
            float(own.get("first_ms", self._pace.first_ms)),
            float(own.get("token_ms", self._pace.token_ms)),
            str(own.get("fault", "")),
            int(own.get("at", 0)),
        )

    async def _fault(self, pace: Pace, index: int, sink: Sink) -> None:
        if not pace.fault or pace.at != index:
            return
        match pace.fault:
            case "cut":
                raise EngineFault(f"{self.name} ended its stream before [DONE]")
            case "error":
                raise EngineFault(f"{self.name}: as asked, an error", retryable=False)
            case "exit":
                os._exit(9)
            case "hang":
                self._hung += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    self._hung -= 1


class _Answer:
    """Chunks and document in llama-server's shape."""

    def __init__(self, job: Job, request: dict[str, Any], words: list[str]) -> None:
        self._id = f"chatcmpl-{job.id}"
        self._created = int(time.time())
        self._model = job.model
        self._stream = job.stream
        self._words = words
        self._usage = (request.get("stream_options") or {}).get("include_usage")
        self._said: list[str] = []

    def head(self) -> bytes:
        return self._chunk({"role": "assistant", "content": None})

    def add(self, index: int) -> bytes:
        word = self._words[index % len(self._words)]
        text = word if index == 0 else f" {word}"
        self._said.append(text)
        return self._chunk({"content": text})

    def tail(self) -> bytes:
        if not self._stream:
            return self._document()
        closing = self._chunk({}, finish=self._finish)
        if self._usage:
            closing += b"data: " + orjson.dumps({**self._top([]), "usage": self._count()}) + b"\n\n"
        return closing + b"data: [DONE]\n\n"

    @property
    def _finish(self) -> str:
        return "stop" if len(self._said) == len(self._words) else "length"

    def _count(self) -> dict[str, int]:
        prompt, completion = len(self._words), len(self._said)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _top(self, choices: list[Any], kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {
            "choices": choices,
            "created": self._created,
            "id": self._id,
            "model": self._model,
            "object": kind,
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"finish_reason": finish, "index": 0, "delta": delta}
        return b"data: " + orjson.dumps(self._top([choice])) + b"\n\n"

    def _document(self) -> bytes:
        message = {"role": "assistant", "content": "".join(self._said)}
        choice = {"finish_reason": self._finish, "index": 0, "message": message}
        document = self._top([choice], "chat.completion")
        return orjson.dumps({**document, "usage": self._count()})


async def _wait(milliseconds: float) -> None:
    await asyncio.sleep(milliseconds / 1000)


def _words(request: dict[str, Any]) -> list[str]:
    for message in reversed(request.get("messages") or []):
        content = message.get("content")
        if message.get("role") == "user" and isinstance(content, str) and content.split():
            return content.split()
    return ["(silence)"]


def _refuse(status: int, sink: Sink, code: str = "as_asked") -> End:
    if status >= 500:
        raise EngineFault(f"echo: status {status}, as asked", away=status == 503)
    error = {"message": "refused, as asked", "type": "invalid_request_error", "code": code}
    sink.start(status, JSON)
    sink.data(orjson.dumps({"error": error}))
    return End(0, 0, 0)

"""llama.cpp's llama-server, as measured on b11549.

It is always asked to stream: only then does it notice within milliseconds that nobody listens.
Its own queue is unbounded and silent, so it never gets more jobs than it has slots.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import orjson

from schemas import settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel
from workers.engines.aggregate import Aggregate, StreamCut, StreamFault, prepare
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.http import Upstream, read_error, relay_events
from workers.engines.usage import Usage, last_usage

JSON = "application/json"
CHECK_TIMEOUT = 60.0
PROBE_TIMEOUT = 10.0

CLIENT_FAULTS = (
    "image input is not supported",
    "audio input is not supported",
    "is too large to process",
    "is required",
    "cannot make GET request",
)
"""Messages of faults of the request that the server reports as 500 (measured)."""


class LlamaCppEngine:
    kind = "llamacpp"

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        self._config = config
        self._http = Upstream(config.name, config.url, config.api_key.get_secret_value())
        self._probe_path = "/health"

    async def open(self) -> None:
        await self._http.open()

    async def close(self) -> None:
        await self._http.close()

    async def discover(self) -> Offer:
        """Slots from ``/props``, models from ``/v1/models``; the config's own names come first."""
        props = await self._http.json("/props")
        listed = await self._http.json("/v1/models")
        try:
            slots = self._config.slots or int(props["total_slots"])
            context = int(props["default_generation_settings"]["n_ctx"])
            names = [str(model["id"]) for model in listed["data"]]
            seen = props.get("modalities") or {}
        except (KeyError, TypeError, ValueError):
            why = f"{self.name} does not answer like llama-server: is the URL right?"
            raise EngineFault(why, away=True) from None
        if props.get("endpoint_slots"):
            self._probe_path = "/slots"  # answered by the inference loop, unlike /health
        modalities = ("text", *(name for name in ("vision", "audio") if seen.get(name)))
        models = self._config.models or [_bare(name) for name in names]
        return Offer(
            slots,
            tuple(
                ServedModel(name, self.name, self.kind, slots, context, modalities)
                for name in models
            ),
        )

    async def check(self) -> None:
        body = orjson.dumps(
            {
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 1,
                "cache_prompt": False,
            }
        )
        path = "/v1/chat/completions"
        try:
            async with (
                asyncio.timeout(CHECK_TIMEOUT),
                self._http.call("POST", path, body, JSON) as response,
            ):
                if response.status >= 500:
                    raise EngineFault(
                        f"{self.name} failed a small job: {response.status}", away=True
                    )
                await response.read()
        except TimeoutError:
            why = f"{self.name} did not finish a small job in {CHECK_TIMEOUT:.0f} s"
            raise EngineFault(why, away=True) from None

    async def probe(self) -> bool:
        try:
            async with (
                asyncio.timeout(PROBE_TIMEOUT),
                self._http.call("GET", self._probe_path) as response,
            ):
                return response.status == 200
        except TimeoutError:
            return False

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        whole: dict[str, Any] = {}
        if not job.stream:
            whole = orjson.loads(body)
            body = orjson.dumps(prepare(whole))
        async with self._http.call("POST", job.endpoint, body, JSON) as response:
            if response.status != 200:
                return await self._refused(response, sink)
            collect = self._relay if job.stream else self._aggregate
            usage = await collect(response, sink, whole)
        took = round((time.monotonic() - began) * 1000)
        if usage is None:
            return End(engine_ms=took)
        return End(usage.prompt, usage.completion, usage.cached, took)

    async def _relay(
        self, response: aiohttp.ClientResponse, sink: Sink, _: dict[str, Any]
    ) -> Usage | None:
        sink.start(response.status, response.headers.get("Content-Type", "text/event-stream"))
        events = await relay_events(response, sink)
        if not events.finished:
            raise EngineFault(f"{self.name} ended its stream before [DONE]", away=True)
        return last_usage(events.tail)

    async def _aggregate(
        self, response: aiohttp.ClientResponse, sink: Sink, whole: dict[str, Any]
    ) -> Usage | None:
        answer = Aggregate(whole)
        try:
            while chunk := await response.content.readany():
                answer.feed(chunk)
                sink.touch()
            document = answer.result()
        except StreamFault as fault:
            raise EngineFault(f"{self.name}: {fault}") from None
        except StreamCut as fault:
            raise EngineFault(f"{self.name}: {fault}", away=True) from None
        sink.start(200, "application/json; charset=utf-8")
        sink.data(document)
        await sink.settle()
        return answer.usage()

    async def _refused(self, response: aiohttp.ClientResponse, sink: Sink) -> End:
        """A fault of the request goes to the client as the engine said it; others are retried."""
        body = await read_error(response)
        status = response.status
        kind, message = _error_of(body)
        if status >= 500 and any(text in message for text in CLIENT_FAULTS):
            status = 400
        if status >= 500 or status == 429:
            why = message or f"status {status}"
            raise EngineFault(f"{self.name}: {why}", away=status == 503)
        if kind == "exceed_context_size_error":
            body = _with_code(body, "context_length_exceeded")
        elif status != response.status:
            body = _with_code(body, "invalid_request", "invalid_request_error")
        sink.start(status, response.headers.get("Content-Type", JSON))
        sink.data(body)
        return End(0, 0, 0)


def _bare(name: str) -> str:
    """A server without an alias names its file's path: keep the file's name alone."""
    return name.rsplit("/", 1)[-1].removesuffix(".gguf")


def _error_of(body: bytes) -> tuple[str, str]:
    """(type, message) of llama-server's error object, empty where there is none."""
    try:
        error = orjson.loads(body)["error"]
        return str(error.get("type", "")), str(error.get("message", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", ""


def _with_code(body: bytes, code: str, kind: str = "") -> bytes:
    """The engine's error with OpenAI's word for `code`; all else as the engine said it."""
    found = orjson.loads(body)
    found["error"]["code"] = code
    if kind:
        found["error"]["type"] = kind
    return orjson.dumps(found)

"""Drives one engine against a server: jobs, and a sink that keeps what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson

from schemas import settings
from schemas.jobs import Job
from tests.doubles.base import PATIENCE
from workers.engines.base import Engine, Sink

JSON = "application/json"
CHAT = "/v1/chat/completions"
E = TypeVar("E", bound=Engine)


class RecordingSink(Sink):
    """`status` 0: no head came. `headed` is set with the head, `begun` with the first bytes."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = ""
        self.chunks: list[bytes] = []
        self.touched = 0
        self.headed = asyncio.Event()
        self.begun = asyncio.Event()

    def start(self, status: int, content_type: str) -> None:
        assert not self.status, "a second head"
        self.status, self.content_type = status, content_type
        self.headed.set()

    def data(self, chunk: bytes) -> None:
        assert self.status, "bytes before the head"
        self.chunks.append(chunk)
        self.begun.set()

    def touch(self) -> None:
        self.touched += 1

    async def settle(self) -> None: ...

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object; fails if the answer is none."""
        assert self.status >= 400, self.body
        assert self.content_type == JSON
        error: dict[str, Any] = self.document["error"]
        assert isinstance(error["code"], str)
        assert isinstance(error["message"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if error["type"] == "exceed_context_size_error":  # llama-server's word beside OpenAI's
            kind = error["type"] if error["code"] == "context_length_exceeded" else kind
        assert error["type"] == kind
        return error

    @property
    def events(self) -> list[Any]:
        """The data of an event stream, without ``[DONE]``."""
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [orjson.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def text(self) -> str:
        """What the deltas of a streamed chat amount to."""
        deltas = [choice["delta"] for e in self.events for choice in e["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def job(
    model: str,
    endpoint: str = CHAT,
    *,
    stream: bool = False,
    content_type: str = JSON,
    asked: str = "",
    lenient: bool = False,
) -> Job:
    return Job(
        id="0" * 32,
        ingress="i",
        lane="i",
        model=model,
        asked=asked or model,
        endpoint=endpoint,
        arrived=0,
        claim_by=0,
        first_by=0,
        total_by=0,
        stream=stream,
        account="default",
        key="k",
        content_type=content_type,
        body=b"",
        lenient=lenient,
    )


def config(kind: str, url: str, **more: Any) -> settings.Engine:
    return settings.Engine(name="e", kind=kind, url=url, **more)


@asynccontextmanager
async def opened(engine: E) -> AsyncIterator[E]:
    """`engine` with its clients made and its models known."""
    await engine.open()
    try:
        await engine.discover()
        yield engine
    finally:
        await engine.close()


async def ask(engine: Engine, what: Job, body: Any) -> RecordingSink:
    """The answer to one job; `body` is bytes or becomes JSON."""
    sink = RecordingSink()
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    async with asyncio.timeout(PATIENCE):
        await engine.run(what, raw, sink)
    return sink


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}

"""What the tests of an engine need around it: a sink that keeps, jobs, uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from schemas import multipart, settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.multipart import Part
from workers import engines
from workers.engines.whisper.engine import WhisperEngine, tone

TRANSCRIBE = "/v1/audio/transcriptions"
TRANSLATE = "/v1/audio/translations"


class Answer:
    """A sink that keeps what an engine says, as the client would get it."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = ""
        self.body = b""

    def start(self, status: int, content_type: str) -> None:
        assert not self.status, "a second head"
        self.status, self.content_type = status, content_type

    def data(self, chunk: bytes) -> None:
        assert self.status, "data before the head"
        self.body += chunk

    def touch(self) -> None: ...

    async def settle(self) -> None: ...

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def error(self) -> tuple[int, str | None, str, str]:
        """(status, param, code, message)."""
        error = self.json["error"]
        assert error["type"] == "invalid_request_error"
        return self.status, error["param"], error["code"], error["message"]


def form(file: bytes = b"", /, **fields: str | list[str]) -> tuple[bytes, str]:
    """An upload (a tone if it is not given) and text fields; a list repeats the field."""
    parts = [
        Part(name, value.encode())
        for name, values in fields.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return multipart.encode([*parts, Part("file", file or tone(), "speech.bin")])


def job(body: tuple[bytes, str], endpoint: str = TRANSCRIBE, *, lenient: bool = False) -> Job:
    times = (0, 0, 0, 0)
    who = ("account", "key", body[1])
    return Job(
        "0" * 32, "i", "i", "w", "w", endpoint, *times, False, *who, body[0], lenient=lenient
    )  # fmt: skip


@asynccontextmanager
async def engine_at(url: str, **config: Any) -> AsyncIterator[WhisperEngine]:
    """A whisper engine for the server at `url`, as a worker makes it."""
    built = engines.build(settings.Engine(name="ears", kind="whisper", url=url, **config))
    assert isinstance(built, WhisperEngine)
    await built.open()
    try:
        yield built
    finally:
        await built.close()


async def run(engine: WhisperEngine, wanted: Job) -> tuple[End, Answer]:
    answer = Answer()
    end = await engine.run(wanted, wanted.body, answer)
    return end, answer

"""Forms, and requests with them, for tests of a running fabric."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import multipart
from schemas.multipart import Part
from tests.doubles.sdserver.server import SdServer
from tests.doubles.whisper.server import WhisperSim
from tests.fabric import Fabric

Value = str | bytes | Part | Sequence[str | bytes | Part]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Of a stream, in their order."""
        assert self.status == 200, self.body[:500]
        lines = self.body.split(b"\n")
        return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has all that an error has to have."""
        assert self.status >= 400, self.body[:500]
        assert self.headers["content-type"] == "application/json"
        error: dict[str, Any] = self.json["error"]
        assert error["type"]
        assert error["code"]
        assert len(error["message"]) > 10
        assert "param" in error
        return error

    @property
    def told(self) -> tuple[int, str, str | None]:
        """(status, code, param)."""
        return self.status, self.error["code"], self.error["param"]


def form(**fields: Value) -> tuple[bytes, str]:
    """(body, content type). Bytes are uploads; a list repeats the field; ``x__`` is ``x[]``."""
    parts = []
    for key, values in fields.items():
        name = key[:-2] + "[]" if key.endswith("__") else key
        for value in [values] if isinstance(values, str | bytes | Part) else values:
            if isinstance(value, Part):
                parts.append(value)
            elif isinstance(value, bytes):
                parts.append(Part(name, value, "upload.bin", "application/octet-stream"))
            else:
                parts.append(Part(name, value.encode()))
    return multipart.encode(parts)


@dataclass(slots=True)
class MediaSetup:
    """A running fabric with an engine that hears ("tiny.en"), one that draws ("flux"), and one that
    only chats ("echo"). `url`: of the ingress that is asked."""

    fabric: Fabric
    whisper: WhisperSim
    sdserver: SdServer
    url: str

    async def post(
        self,
        path: str,
        body: bytes | Mapping[str, Any],
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A raw body, or JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        heads = {**self.fabric.headers, "content-type": content_type, **(headers or {})}
        async with self.fabric.session.post(
            self.url + path, data=io.BytesIO(raw), headers=heads
        ) as answer:
            assert answer.headers["x-request-id"]
            return Answer(answer.status, answer.headers, await answer.read())

    async def upload(self, path: str, /, **fields: Value) -> Answer:
        return await self.post(path, *form(**fields))

    async def look(self, url: str) -> Answer:
        """What is at an address, without a key."""
        async with self.fabric.session.get(url) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

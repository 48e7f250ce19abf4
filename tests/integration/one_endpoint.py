"""A fabric with an engine that has a single one of OpenAI's endpoints, and requests to that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
from aiohttp import web

from deploy.nats import broker as brokers
from tests.doubles.base import Sim, document
from tests.fabric import PATIENCE, Fabric, fabric
from tests.integration.uploads import Answer


class OneEndpointServer(Sim):
    """Subclasses say the `model`, the `path`, and `reply` to a request."""

    model: str
    path: str

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/models", self._models), web.post(self.path, self._run)]

    def missing(self, fault: web.HTTPException) -> web.Response:
        return document({"error": {"message": "not found"}}, fault.status)

    def reply(self, asked: dict[str, Any]) -> web.Response:
        raise NotImplementedError

    async def _models(self, request: web.Request) -> web.Response:
        return document({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _run(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if not asked.get("input"):
            return document({"error": {"message": "no input", "param": "input"}}, 400)
        return self.reply(asked)


@asynccontextmanager
async def fabric_with(
    server: OneEndpointServer, home: Path, routes: dict[str, str] | None = None
) -> AsyncIterator[Fabric]:
    """One worker for `server`, and one with the echo engine."""
    with brokers.start(home / "broker", 0, 0) as broker:
        async with server, fabric(broker, home) as made:
            await made.ingress(routes=routes or {})
            await made.worker(server.url, kind="openai")
            await made.worker()
            await made.served("echo", server.model)
            yield made


def client(made: Fabric) -> openai.AsyncOpenAI:
    key = made.headers["Authorization"].partition(" ")[2]
    return openai.AsyncOpenAI(
        base_url=made.url + "/v1", api_key=key, max_retries=0, timeout=PATIENCE
    )


async def post(made: Fabric, path: str, body: dict[str, Any]) -> Answer:
    async with made.session.post(made.url + path, json=body, headers=made.headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())

"""The routes table, the exception table, and the order of start and stop. Nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ingress.context import Context
from ingress.endpoints import chat, health, models
from schemas import errors, metrics
from schemas.errors import HeadraceError

log = structlog.get_logger("app")

Entry = tuple[str, Callable[[Request], Awaitable[Response]], str]

API: tuple[Entry, ...] = (
    ("/chat/completions", chat.create, "POST"),
    ("/models", models.index, "GET"),
    ("/models/{model:path}", models.show, "GET"),
)
"""Served with and without ``/v1``."""

OWN: tuple[Entry, ...] = (
    ("/healthz", health.alive, "GET"),
    ("/readyz", health.ready, "GET"),
    ("/metrics", health.metrics, "GET"),
)

LINGER = 2.0
"""Seconds that what a client still sends is read and thrown away after a refusal."""


def build(context: Context) -> ASGIApp:
    app = Starlette(
        routes=_routes(),
        exception_handlers={
            HeadraceError: _refuse,
            HTTPException: _http,
            Exception: _internal,
        },
    )
    app.router.redirect_slashes = False
    app.state.context = context
    return Identified(app)


def _routes() -> Sequence[BaseRoute]:
    paths = [(v + path, call, verb) for v in ("/v1", "") for path, call, verb in API]
    return [Route(path, call, methods=[verb]) for path, call, verb in (*paths, *OWN)]


class Identified:
    """Gives each request an id: the client's own, if it is a sane one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["id"] = _request_id(scope)
        await self._app(scope, receive, send)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= 128 and value.isascii():
            text: str = value.decode("ascii")
            if text.isprintable():
                return text
    return f"req-{os.urandom(12).hex()}"


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadraceError)
    metrics.ERRORS.labels(error.code).inc()
    headers = {"x-request-id": request.state.id, **error.headers()}
    log.info("refused", id=request.state.id, code=error.code, why=error.message)
    if error.status in (413, 431):
        return Lingering(error.json(), error.status, {**headers, "connection": "close"})
    return Response(error.json(), error.status, headers, media_type="application/json")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        known: HeadraceError = errors.MethodNotAllowed(f"{where}: this method is not allowed here.")
    elif error.status_code == 404:
        known = errors.NotFound(f"{where}: no such endpoint.")
    else:
        known = errors.InvalidRequest(str(error.detail))
    response = await _refuse(request, known)
    response.headers.update(error.headers or {})
    return response


async def _internal(request: Request, error: Exception) -> Response:
    log.error("internal", id=request.state.id, exc_info=error)
    return await _refuse(request, errors.Internal("A fault of the fabric; the log has it."))


class Lingering(Response):
    """Answers before the request was read, and reads on for a moment: closing at once would reset
    the connection, and the client would lose the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["content-type"] = "application/json"
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

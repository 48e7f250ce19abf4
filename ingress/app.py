"""The routes table, the exception table, and the order of start and stop. Nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ingress.context import Context
from ingress.endpoints import (
    admin,
    embedding,
    health,
    images,
    inference,
    keys,
    models,
    ollama,
    props,
    queue,
    requests,
    rerank,
    usage,
)
from ingress.http import cors, error_format, unserved, whole
from ingress.http.body import CYCLE, FIRST, ID, Asked, new_id, request_id
from ingress.http.held import HELD, let_go
from ingress.idempotency import serve as idempotency
from ingress.request.picture_store import PATH
from ingress.traced import SERVED, Served, passed_on
from schemas import errors, metrics
from schemas.api import endpoints
from schemas.api.endpoints import VERSION, Endpoint
from schemas.errors import HeadraceError
from schemas.traces import CURRENT, PARENT

if TYPE_CHECKING:
    from schemas.otel.telemetry import Telemetry

log = structlog.get_logger("app")

Serve = Callable[[Request], Awaitable[Response]]
Entry = tuple[str, Serve, str]

SPECIAL: Mapping[str, Serve] = {
    endpoints.IMAGES.word: images.generate,
    endpoints.EDITS.word: images.edit,
    endpoints.RERANK.word: rerank.serve,
}
"""Endpoints that need more than their line in the table of endpoints."""


def _served(endpoint: Endpoint) -> Serve:
    return SPECIAL.get(endpoint.word) or partial(inference.serve, endpoint=endpoint)


EMBEDDING, RERANKING = "/embedding", "/reranking"
"""llama-server's own: a form of embeddings, and a further name of ranks."""

API: tuple[Entry, ...] = (
    *((each.path.removeprefix(VERSION), _served(each), "POST") for each in endpoints.ENDPOINTS),
    ("/images/variations", images.vary, "POST"),
    (f"{PATH.removeprefix(VERSION)}/{{name}}", images.show, "GET"),
    ("/models", models.index, "GET"),
    ("/queue", queue.show, "GET"),
    ("/models/{model:path}", models.show, "GET"),
    (EMBEDDING, embedding.serve, "POST"),
    ("/props", props.show, "GET"),
    (RERANKING, _served(endpoints.RERANK), "POST"),
)
"""Served with and without ``/v1``."""

OWN: tuple[Entry, ...] = (
    ("/healthz", health.alive, "GET"),
    ("/readyz", health.ready, "GET"),
    ("/health", health.ready, "GET"),
    (f"{VERSION}/health", health.ready, "GET"),
    ("/metrics", health.metrics, "GET"),
    ("/admin/credits", admin.index, "GET"),
    ("/admin/credits/{account}", admin.show, "GET"),
    ("/admin/credits/{account}/history", admin.history, "GET"),
    ("/admin/credits/{account}/grants", admin.grant, "POST"),
    ("/admin/usage", usage.everyone, "GET"),
    (f"{VERSION}/usage", usage.own, "GET"),
    *requests.ROUTES,
    *keys.ROUTES,
)

RANKS = endpoints.RERANK.path.replace(VERSION, "/v2")
"""Cohere's name of ranks, which vLLM has, too."""

INFERENCE = frozenset(
    {
        v + path.removeprefix(VERSION)
        for path in (*endpoints.BY_PATH, EMBEDDING, RERANKING)
        for v in ("", VERSION)
    }
    | {f"{endpoints.OLLAMA}/{word}" for word in ("chat", "generate", "embed", "embeddings")}
    | {RANKS}
)
"""The paths of requests that models do, which have traces."""

_LIKE = 0.8
"""How much an unknown path must be like an endpoint's to have this one proposed."""
_LONGEST = 64
"""Letters of an unknown path for which a known one is looked up; the search is slow."""

LINGER = 2.0
"""Seconds after a refusal in which the rest of the request is read and thrown away."""


def build(context: Context, more: Sequence[Entry] = ()) -> ASGIApp:
    """The application. `more`: entries beside `API`, from whatever starts the process."""
    return Edge(context, (*API, *more))


class Edge:
    """The application: an id for each request, the routes, and an answer to every exception.

    It uses Starlette's router without the middleware stack, which wraps `send` three times. One
    `try` does the same here, and saves 12 % of the CPU of a short answer (measured).
    """

    def __init__(self, context: Context, api: Sequence[Entry]) -> None:
        paths = [(v + path, call, verb) for v in (VERSION, "") for path, call, verb in api]
        ranks = (RANKS, _served(endpoints.RERANK), "POST")
        entries = (*paths, ranks, *OWN, *ollama.ROUTES)
        by_path: dict[str, dict[str, Serve]] = {}  # one route each, as a 405 tells all methods
        for path, call, verb in entries:
            by_path.setdefault(path, {})[verb] = call
        secret = {path for path, _, _ in keys.ROUTES}
        told = context.telemetry
        handlers = {
            path: Handler(calls, told, kept=path not in secret, traced=path in INFERENCE)
            for path, calls in by_path.items()
        }
        routes = [Route(path, each, methods=[*by_path[path]]) for path, each in handlers.items()]
        self._handlers = handlers
        """By path: one that has no pattern is found without the router."""
        self._router = Router(routes, redirect_slashes=False)
        closed = tuple(path.partition("{")[0] for path, _, _ in OWN)  # to web pages
        known = (*(VERSION + path for path, _, _ in api), *(path for path, _, _ in ollama.ROUTES))
        self._known = [RANKS, *(path for path in known if "{" not in path)]
        origins = context.config.ingress.cors_origins
        self._pages = cors.Pages(origins, closed)
        self.context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # uvicorn sends nothing else, as it is set up
            return
        state = scope.setdefault("state", {})
        first = state[FIRST] = dict(reversed(scope["headers"]))
        state["id"] = request_id(scope["headers"]) if ID in first else new_id()
        if b"origin" in first:  # a browser's
            state.pop(CYCLE, None)  # as the answer gets more headers on its way
            if origin := self._pages.origin(scope):
                send = cors.telling(send, origin)
            if cors.asks(scope):
                await cors.answer(scope, send, allowed=bool(origin))
                return
        scope["app"] = self  # without it the router would answer 404 and 405 itself
        handler = self._handlers.get(scope["path"])
        if handler is not None and scope["method"] in handler.calls:
            await handler(scope, receive, send)
            return
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            response = await _http(Request(scope, receive), error, self._known)
            await response(scope, receive, send)


class Handler:
    """An endpoint as an ASGI application. An exception before the answer becomes an answer."""

    def __init__(
        self,
        calls: Mapping[str, Serve],
        telemetry: Telemetry | None = None,
        *,
        kept: bool = True,
        traced: bool = False,
    ) -> None:
        """`calls`: by their methods. `kept`: an answer to an idempotency key may be stored.
        `traced`: requests have a trace, told of by `telemetry` or passed on."""
        head = {"HEAD": calls["GET"]} if "GET" in calls else {}  # the router lets it through
        self.calls = {**calls, **head}
        self._kept = kept
        self._traced = traced
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Asked(scope, receive, send)
        told = self._telemetry
        try:
            if self._traced and told is not None:
                with Served(told, request):
                    await self._answer(request)
            elif self._traced and PARENT in request.headers:
                with passed_on(request):
                    await self._answer(request)
            else:
                if CURRENT.get() is not None:
                    CURRENT.set(None)  # of the request before, which this one was sent behind
                await self._answer(request)
        finally:
            if HELD in scope["state"]:
                let_go(request)

    async def _answer(self, request: Request) -> None:
        scope = request.scope
        call = self.calls[scope["method"]]
        try:
            if scope["method"] == "POST" and idempotency.KEY in request.headers and self._kept:
                response = await idempotency.serve(request, call)
            else:
                response = await call(request)
        except HeadraceError as error:
            response = await _refuse(request, error)
            if (served := scope["state"].get(SERVED)) is not None:
                served.error = error.code
            _let_go(error)
        except Exception as error:  # noqa: BLE001 - the last line: no traceback reaches a client
            response = await _internal(request, error)
            _let_go(error)
        if (served := scope["state"].get(SERVED)) is not None:
            served.status = response.status_code
        if all(name != ID for name, _ in response.raw_headers):
            response.raw_headers.append((ID, scope["state"]["id"].encode("latin-1")))
        if type(response) is not Response or not whole.write(scope["state"], response):
            await response(scope, request.receive, request._send)


def _let_go(error: BaseException) -> None:
    """Forget where an error was raised. Frames have it in their names, and it has the frames: the
    body that they hold would stay until the collector comes, which is after many such errors."""
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__, chain = None, chain.__context__


async def _refuse(request: Request, error: HeadraceError, *, served: bool = True) -> Response:
    """`served`: there is such a path."""
    metrics.ERRORS.labels(error.code).inc()
    api = error_format.of(request.url.path, request.headers, served=served)
    headers = {**dict.fromkeys(api.id_headers, request.state.id), **error.headers()}
    body = api.error_document(error.fields(), error.status, request.state.id)
    log.info("refused", id=request.state.id, code=error.code, why=error.message)
    if error.status in (413, 431):  # the rest of the request is still to come
        return Lingering(body, error.status, {**headers, "connection": "close"})
    return Response(body, error.status, headers, media_type="application/json")


async def _http(request: Request, error: HTTPException, known_paths: list[str]) -> Response:
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        known: HeadraceError = errors.MethodNotAllowed(
            f"{where}: this method is not allowed here{allowed and f', but {allowed}'}."
        )
    elif error.status_code == 404:
        known = errors.NotFound(f"{where}: {_unknown(request.url.path, known_paths)}")
    else:
        known = errors.InvalidRequest(str(error.detail))
    response = await _refuse(request, known, served=error.status_code != 404)
    response.headers.update(error.headers or {})
    return response


def _unknown(path: str, known: list[str]) -> str:
    """What is said of a path that is not served."""
    if why := unserved.why(path):
        return f"this endpoint is not served here: {why}."
    return f"no such endpoint{_meant(path, known)}"


def _meant(path: str, known: list[str]) -> str:
    """A proposal: the known path that is most like `path`, or that it ends with. A client that adds
    ``/v1`` to an address which has it already asks for ``/v1/v1/chat/completions``; one whose
    address is that of an endpoint, for ``/v1/chat/completions/chat/completions``."""
    if len(path) > _LONGEST:
        return "."
    path = path.rstrip("/")
    near = get_close_matches(path, known, 1, _LIKE)
    ends = (each for each in known if path.endswith(each.removeprefix(VERSION)))
    near = near or sorted(ends, key=len)[-1:]
    return f"; did you mean {near[0]}?" if near else "."


async def _internal(request: Request, error: Exception) -> Response:
    log.error("internal", id=request.state.id, exc_info=error)
    return await _refuse(request, errors.Internal("A fault of the fabric; the log has it."))


class Lingering(Response):
    """Answers before the request was read, then reads on for a moment. Closing at once would reset
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

"""Ollama's own API, for clients that know no other: a dialect of chats, text completions,
embeddings and the list of models (`schemas.api.ollama`). Nothing here changes a model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ingress.answer.headers import warn
from ingress.context import context
from ingress.endpoints import front, models
from ingress.endpoints.inference import (
    JSON,
    SUCCESS,
    Caller,
    admit,
    answer,
    checked_body,
    plan_of,
    read_json,
)
from ingress.http.auth import need_scope
from ingress.http.error_format import error_of
from ingress.http.held import held_of
from ingress.http.streamed import EventStream
from ingress.models import fields
from ingress.models.routes import Plan, usable
from schemas.api import piecewise
from schemas.api.base import NO_ANSWER, Document
from schemas.api.endpoints import CHAT, EMBEDDINGS, OLLAMA, Endpoint
from schemas.api.ollama import answer as answers
from schemas.api.ollama import models as lists
from schemas.api.ollama import request as requests
from schemas.api.ollama.answer import Answer, Watch
from schemas.api.ollama.request import Put
from schemas.api.piecewise_write import dump
from schemas.api.shape import Shape, missing
from schemas.errors import EngineFailed, UnsupportedEndpoint, UnsupportedParameter
from schemas.keys import READ_MODELS
from schemas.nodes import Ignored

Asked = Mapping[str, Any]
Make = Callable[[Document], Any]
_UNLOADED = (0, "0", "0s")
"""Values of `keep_alive` with which a model is to be unloaded."""
_KIND, _THOUGHTS = "ollama", "reasoning"
"""The kind of its engines, and the feature of models that think."""
_OF_BODIES = ("content-length", "content-type")


async def chat(request: Request) -> Response:
    caller, asked = await _read(request, requests.CHAT_SHAPE)
    plan = _plan(caller, asked, CHAT)
    _need_thoughts(caller, plan, asked)
    told = Answer(plan.name, answers.as_message, Watch(time.monotonic))
    if requests.is_empty(asked, "messages"):
        return _loaded(asked, told)
    return await _generated(caller, requests.chat(asked), told)


async def generate(request: Request) -> Response:
    caller, asked = await _read(request, requests.GENERATE_SHAPE)
    plan, watch = _plan(caller, asked, CHAT), Watch(time.monotonic)
    _need_thoughts(caller, plan, asked)
    if requests.is_empty(asked, "prompt"):
        return _loaded(asked, Answer(plan.name, answers.as_response, watch))
    put = requests.generate(asked, plan.ability.open)
    told = Answer(plan.name, answers.as_response, watch, put.said)
    return await _generated(caller, put, told)


async def embed(request: Request) -> Response:
    caller, asked = await _read(request, requests.EMBED_SHAPE)
    name = _plan(caller, asked, EMBEDDINGS).name
    made = partial(answers.embedded, name, Watch(time.monotonic))
    if requests.is_empty(asked, "input"):
        return models.as_json(made({"data": []}))
    return await _made(caller, await _answer(caller, requests.embed(asked, "input")), made)


async def embeddings(request: Request) -> Response:
    """The older way: one text, and its vector as the engine gives it."""
    caller, asked = await _read(request, requests.EMBEDDING_SHAPE)
    _plan(caller, asked, EMBEDDINGS)
    if requests.is_empty(asked, "prompt"):
        return models.as_json({"embedding": []})
    response = await _answer(caller, requests.embed(asked, "prompt"))
    return await _made(caller, response, lambda found: {"embedding": found["data"][0]["embedding"]})


async def tags(request: Request) -> Response:
    here, who = context(request), need_scope(request, READ_MODELS)
    found = [lists.listed(models.entry(here, name)) for name in models.listed(here, who)]
    return models.as_json({"models": found})


async def running(request: Request) -> Response:
    """The models that workers serve: they are loaded. Those of providers are not here."""
    here, who = context(request), need_scope(request, READ_MODELS)
    live, now = usable(sorted(here.catalog.models()), who.policy.models), datetime.now(UTC)
    found = [lists.running(models.entry(here, name), now) for name in live]
    return models.as_json({"models": found})


async def show(request: Request) -> Response:
    caller, name, _ = await _named(request)
    if not name:
        raise missing("model")
    return models.as_json(lists.shown(models.found(caller.here, caller.who, name)))


async def told_version(request: Request) -> Response:
    context(request).keys.who(request)
    return models.as_json({"version": lists.VERSION, "headrace": version("headrace")})


async def alive(request: Request) -> Response:
    """No key is needed, as Ollama's clients ask this before all else. A browser gets a page."""
    if "text/html" in request.headers.get("accept", ""):
        return front.page(request)
    return PlainTextResponse("Ollama is running")


async def pull(request: Request) -> Response:
    """Programs pull a model before they use it. One that is served is here already."""
    caller, name, asked = await _named(request)
    if name and models.has(caller.here, caller.who, name):
        done = {"status": "success"}
        if not requests.streams(asked):
            return models.as_json(done)
        return Response(await dump(done) + b"\n", media_type=answers.CONTENT_TYPE)
    return await refuse(request)


async def refuse(request: Request) -> Response:
    """Whatever would change a model."""
    context(request).keys.who(request)
    raise UnsupportedEndpoint(
        f"{request.url.path}: no models are pulled, made or deleted here. Start an engine that has "
        f"the model, and a worker beside it; GET {OLLAMA}/tags lists what is served."
    )


_SERVED: tuple[tuple[str, Callable[[Request], Awaitable[Response]], str], ...] = (
    ("version", told_version, "GET"),
    ("tags", tags, "GET"),
    ("ps", running, "GET"),
    ("show", show, "POST"),
    ("chat", chat, "POST"),
    ("generate", generate, "POST"),
    ("embed", embed, "POST"),
    ("embeddings", embeddings, "POST"),
    ("pull", pull, "POST"),
    *((word, refuse, "POST") for word in ("push", "create", "copy", "blobs/{digest}")),
    ("delete", refuse, "DELETE"),
)
ROUTES = (
    ("/", alive, "GET"),
    *((f"{OLLAMA}/{word}", call, verb) for word, call, verb in _SERVED),
)


async def _read(request: Request, shape: Shape) -> tuple[Caller, dict[str, Any]]:
    """Raises HeadraceError."""
    caller = admit(request)
    asked, _ = await read_json(caller, shape)
    return caller, asked


async def _named(request: Request) -> tuple[Caller, str | None, dict[str, Any]]:
    """Of a request that is about a model: a caller who may read of it, the model's name, if it has
    one, and the request. Raises HeadraceError."""
    caller = Caller(request, context(request), need_scope(request, READ_MODELS))
    caller.here.bodies.hold(request, caller.who.key)
    asked, _ = await read_json(caller, requests.SHOW_SHAPE)
    return caller, asked.get("model") or asked.get("name"), asked


def _plan(caller: Caller, asked: Asked, endpoint: Endpoint) -> Plan:
    """Raises HeadraceError."""
    caller.who.need_endpoint(endpoint.path)
    return plan_of(caller, asked.get("model"), endpoint)


def _need_thoughts(caller: Caller, plan: Plan, asked: Asked) -> None:
    """Ollama refuses to think with a model that cannot (source at fb30760), and so does this API if
    Ollama alone serves it. Raises UnsupportedParameter."""
    if not asked.get("think") or plan.is_lenient(caller.request.headers, caller.who.policy):
        return
    serving = caller.here.catalog.serving(plan.model)
    if serving and all(each.kind == _KIND and not each.has(_THOUGHTS) for each in serving):
        raise UnsupportedParameter(f'"{plan.name}" does not support thinking', param="think")


def _loaded(asked: Asked, told: Answer) -> Response:
    """The answer to a request that only loads or unloads a model. Neither is done here: who runs
    the engine decides."""
    word = "unload" if asked.get("keep_alive") in _UNLOADED else "load"
    response = models.as_json(told.loaded(word))
    if asked.get("keep_alive") is not None:
        why = "keep_alive has no effect: who runs the engine says how long a model stays loaded"
        warn(response, why)
    return response


async def _generated(caller: Caller, put: Put, told: Answer) -> Response:
    response = await _answer(caller, put)
    if not isinstance(response, EventStream):
        return await _made(caller, response, lambda found: answers.document(told, found))
    lines = answers.Lines(told, caller.here.config.ingress.max_answer)
    events = cast(AsyncGenerator[bytes], response.body_iterator)
    response.body_iterator = _lines(events, lines)
    response.headers["content-type"] = answers.CONTENT_TYPE
    return response


async def _lines(events: AsyncGenerator[bytes], lines: answers.Lines) -> AsyncIterator[bytes]:
    async with aclosing(events):
        async for piece in events:
            if found := lines.feed(piece):
                yield found


async def _answer(caller: Caller, put: Put) -> Response:
    """The answer of the endpoint that the request was put as. Raises HeadraceError."""
    held_of(caller.request).kept = True
    lost = _lost_options(caller, put)
    sent = await dump({n: v for n, v in put.request.items() if n not in lost})
    response = await answer(
        caller, put.endpoint, *await checked_body(caller, put.endpoint.shape, sent)
    )
    if lost or put.unused:
        warn(response, fields.warning(lost.values(), "; ".join(put.unused)))
    return response


def _lost_options(caller: Caller, put: Put) -> dict[str, Ignored]:
    """The options that would have no effect, by their fields."""
    plan = _plan(caller, put.request, put.endpoint)
    lost = plan.ability.lost(plan.model, put.request)
    return {each.field: each for each in lost if each.field in requests.SAMPLING}


async def _made(caller: Caller, response: Response, make: Make) -> Response:
    """The document of an answer, or its error, in Ollama's words. Raises EngineFailed."""
    body, status = bytes(response.body), response.status_code
    if status == SUCCESS:
        try:
            written = await dump(make(await piecewise.load(body)))
        except NO_ANSWER as fault:
            why = f"The engine's answer is not what it should be: {type(fault).__name__}."
            raise EngineFailed(why, source="engine") from None
    else:
        error = error_of(body) or {"message": body.decode(errors="replace")}
        written = answers.API.error_document(error, status, caller.request.state.id)
    head = {name: v for name, v in response.headers.items() if name not in _OF_BODIES}
    return Response(written, status, head, media_type=JSON)

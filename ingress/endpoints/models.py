"""``GET /v1/models`` and ``GET /v1/models/{id}``; ids may contain slashes. Anthropic's clients get
Anthropic's form, all others OpenAI's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.endpoints import model_pages
from ingress.http import error_format
from ingress.http.auth import Principal, need_scope
from ingress.models.routes import unknown, usable
from schemas.api.ollama.models import beside
from schemas.globs import may_use
from schemas.keys import READ_MODELS
from schemas.nodes import Card, ServedModel
from schemas.settings.cloud import EVERY


async def index(request: Request) -> Response:
    here, who = context(request), need_scope(request, READ_MODELS)
    names = listed(here, who)
    if error_format.anthropic(request.headers):
        page = model_pages.page(names, request.query_params, partial(entry, here))
        return as_json(page, {"request-id": request.state.id})
    entries = [entry(here, name) for name in names]
    return as_json({"object": "list", "data": entries, "models": list(map(beside, entries))})


async def show(request: Request) -> Response:
    here, who = context(request), need_scope(request, READ_MODELS)
    told = found(here, who, request.path_params["model"])
    if error_format.anthropic(request.headers):
        return as_json(model_pages.told(told), {"request-id": request.state.id})
    return as_json(told)


def found(here: Context, who: Principal, name: str) -> dict[str, Any]:
    """The entry of a model under the name that the client wrote. Raises ModelNotFound."""
    known = listed(here, who)
    if not _is_one(here, who, name, known):
        raise unknown(name, known)
    return {**entry(here, here.routes.meant(name)), "id": name}


def has(here: Context, who: Principal, name: str) -> bool:
    """Whether there is such a model for this key."""
    return _is_one(here, who, name, listed(here, who))


def _is_one(here: Context, who: Principal, name: str, known: Collection[str]) -> bool:
    meant = here.routes.meant(name)
    return meant in known or (meant == EVERY and may_use(name, who.policy.models))


def listed(here: Context, who: Principal) -> list[str]:
    """Of the models that the key may use: those that workers serve now, their aliases, and the
    names that providers have."""
    live = _live(here, who)
    aliases = (name for name, model in here.routes.aliases().items() if model in live)
    bound = who.policy.nodes  # to nodes, so no provider has its requests
    paid = (name for name in here.routes.cloudy() if not bound and _paid(here, name))
    return usable(sorted({*live, *aliases, *paid} - {EVERY}), who.policy.models)


def _live(here: Context, who: Principal) -> Collection[str]:
    """The models that workers serve now on nodes that the key may use."""
    models, globs = here.catalog.models(), who.policy.nodes
    if not globs:
        return models
    return {name for name, at in models.items() if any(may_use(card.node, globs) for card, _ in at)}


def _paid(here: Context, name: str) -> list[str]:
    """The providers that requests for `name` may go to."""
    if name not in here.routes.cloudy():
        return []
    found = here.catalog.providing(here.routes.aliases()[name])
    return list(dict.fromkeys(served.engine for served in found))


def entry(here: Context, name: str) -> dict[str, Any]:
    """One of `listed`, in OpenAI's form."""
    model = here.routes.aliases().get(name, name)
    where, paid = here.catalog.models().get(model, []), _paid(here, name)
    places = where or here.catalog.paid().get(model, [])
    facts = _facts(where, places)
    return {
        "id": name,
        "object": "model",
        "created": min((card.started for card, _ in places), default=0),
        "owned_by": "headrace" if where else ", ".join(paid),
        "shutdown_date": None,
        **_context(facts["context"]),
        "headrace": {"model": model, **facts, "providers": paid},
    }


def _context(tokens: int) -> dict[str, Any]:
    """How long a prompt and its answer may be, where clients of vLLM and of llama-server look."""
    return {"max_model_len": tokens, "meta": {"n_ctx": tokens}} if tokens else {}


def _facts(
    where: list[tuple[Card, ServedModel]], places: list[tuple[Card, ServedModel]]
) -> dict[str, Any]:
    """What is known of a model. `where`: workers that serve it. `places`: the same, or providers if
    no worker serves it."""
    return {
        "nodes": sorted({card.node for card, _ in where}),
        "labels": sorted({label for card, _ in where for label in card.labels}),
        "engines": sorted({served.kind for _, served in where}),
        "slots": sum(served.slots for _, served in where),
        "context": min((served.context for _, served in places), default=0),
        "modalities": sorted({name for _, served in places for name in served.modalities}),
        "features": sorted({name for _, served in places for name in served.features}),
        "ignores": _ignores([served for _, served in places]),
    }


def _ignores(places: list[ServedModel]) -> dict[str, dict[str, Any]]:
    """For each field without effect: why, and `at` which features; without `at`, at all."""
    found: dict[str, dict[str, Any]] = {}
    for served in places:
        for each in served.ignores:
            at = {word for word in each.at if word in served.features or not served.features}
            if each.at and not at:
                continue  # this place does not have the endpoints that ignore the field
            known = found.setdefault(each.field, {"why": each.why, "at": at})
            known["at"] = known["at"] | at if known["at"] and at else set()
    return {
        field: {"why": told["why"], **({"at": sorted(told["at"])} if told["at"] else {})}
        for field, told in found.items()
    }


def as_json(found: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(found), headers=headers, media_type="application/json")

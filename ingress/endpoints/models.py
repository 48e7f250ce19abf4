"""``GET /v1/models`` and ``GET /v1/models/{id}``; ids may contain slashes."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context, principal
from schemas.errors import ModelNotFound
from schemas.nodes import Card, ServedModel


async def index(request: Request) -> Response:
    principal(request)
    here = context(request)
    data = [_entry(here, name) for name in _listed(here)]
    return _json({"object": "list", "data": data})


async def show(request: Request) -> Response:
    principal(request)
    here = context(request)
    name = request.path_params["model"]
    if name not in _listed(here):
        known = ", ".join(_listed(here)) or "none yet: start a worker"
        message = f"The model {name!r} does not exist. Known models: {known}."
        raise ModelNotFound(message, param="model")
    return _json(_entry(here, name))


def _listed(here: Context) -> list[str]:
    """Models that are served now, and the aliases that lead to one."""
    live = here.catalog.models()
    aliases = (name for name, model in here.routes.aliases().items() if model in live)
    return sorted({*live, *aliases})


def _entry(here: Context, name: str) -> dict[str, Any]:
    model = here.routes.aliases().get(name, name)
    where = here.catalog.models()[model]
    return {
        "id": name,
        "object": "model",
        "created": min((card.started for card, _ in where), default=0),
        "owned_by": "headrace",
        "shutdown_date": None,
        "headrace": {"model": model, **_facts(where)},
    }


def _facts(where: list[tuple[Card, ServedModel]]) -> dict[str, Any]:
    return {
        "nodes": sorted({card.node for card, _ in where}),
        "engines": sorted({served.kind for _, served in where}),
        "slots": sum(served.slots for _, served in where),
        "context": min(served.context for _, served in where),
        "modalities": sorted({name for _, served in where for name in served.modalities}),
        "features": sorted({name for _, served in where for name in served.features}),
        "ignores": {each.field: each.why for _, served in where for each in served.ignores},
    }


def _json(found: Any) -> Response:
    return Response(orjson.dumps(found), media_type="application/json")

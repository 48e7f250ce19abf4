"""``GET /v1/models`` and ``GET /v1/models/{id}``; ids may contain slashes. Anthropic's clients get
Anthropic's form, all others OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.endpoints import model_pages
from ingress.http import error_format
from ingress.models.routes import unknown
from schemas.nodes import Card, ServedModel
from schemas.settings.cloud import EVERY


async def index(request: Request) -> Response:
    here = context(request)
    here.keys.who(request)
    names = listed(here)
    if error_format.anthropic(request.headers):
        page = model_pages.page(names, request.query_params, partial(entry, here))
        return as_json(page, {"request-id": request.state.id})
    return as_json({"object": "list", "data": [entry(here, name) for name in names]})


async def show(request: Request) -> Response:
    here = context(request)
    here.keys.who(request)
    told = found(here, request.path_params["model"])
    if error_format.anthropic(request.headers):
        return as_json(model_pages.told(told), {"request-id": request.state.id})
    return as_json(told)


def found(here: Context, name: str) -> dict[str, Any]:
    """The entry of a model under the name that the client wrote. Raises ModelNotFound."""
    names = listed(here)
    if (meant := here.routes.meant(name)) not in (*names, EVERY):
        raise unknown(name, names)
    return {**entry(here, meant), "id": name}


def listed(here: Context) -> list[str]:
    """The models that workers serve now, their aliases, and the names that providers have."""
    live = here.catalog.models()
    aliases = (name for name, model in here.routes.aliases().items() if model in live)
    paid = (name for name in here.routes.cloudy() if _paid(here, name))
    return sorted({*live, *aliases, *paid} - {EVERY})


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
    return {
        "id": name,
        "object": "model",
        "created": min((card.started for card, _ in places), default=0),
        "owned_by": "headrace" if where else ", ".join(paid),
        "shutdown_date": None,
        "headrace": {"model": model, **_facts(where, places), "providers": paid},
    }


def _facts(
    where: list[tuple[Card, ServedModel]], places: list[tuple[Card, ServedModel]]
) -> dict[str, Any]:
    """What is known of a model. `where`: workers that serve it. `places`: the same, or providers if
    no worker serves it."""
    return {
        "nodes": sorted({card.node for card, _ in where}),
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

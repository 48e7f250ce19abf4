"""``GET /props?model=…``: what clients of llama-server read there, as the cards of the model's
engines have it. What is of one server alone (paths, defaults, its template) is not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ingress.context import context
from ingress.endpoints import models
from ingress.http.auth import need_scope
from schemas.errors import ModelNotFound
from schemas.keys import READ_MODELS

_SENSES = ("vision", "audio")


async def show(request: Request) -> Response:
    """Without a name it is of the only model that the key may use. Raises ModelNotFound."""
    here, who = context(request), need_scope(request, READ_MODELS)
    name = request.query_params.get("model")
    if not name:
        names = models.listed(here, who)
        if len(names) != 1:
            known = ", ".join(names) or "none yet: start a worker"
            why = f"No model was named: ask for /props?model=… Known models: {known}."
            raise ModelNotFound(why, param="model")
        name = names[0]
    return models.as_json(_props(models.found(here, who, name)))


def _props(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`entry`: the model's in ``/v1/models``. Of several engines, the smallest context and all
    slots."""
    facts = entry["headrace"]
    context_of = {"n_ctx": facts["context"]} if facts["context"] else {}
    return {
        "default_generation_settings": context_of,
        "total_slots": facts["slots"],
        "model_alias": entry["id"],
        "modalities": {sense: sense in facts["modalities"] for sense in _SENSES},
    }

"""How far a request may go: what its route allows, what its key allows, and what it says itself.

Each can only narrow what the one before left. ``x-headrace-fallback``: ``never`` keeps the request
here, ``only`` sends it to a provider at once, ``allow`` leaves it to the route.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from ingress.context import Context
from ingress.http.auth import Principal
from ingress.models.routes import ANY, CLOUD, LOCAL, Plan
from schemas.errors import InvalidRequest, NoProvider

HEADER = "x-headrace-fallback"
WORDS = ("never", "allow", "only")


def plan(
    here: Context, request: Request, who: Principal, name: str | None, feature: str = ""
) -> Plan:
    """`feature`: what a model that is not named must have. Raises ModelNotFound, InvalidRequest,
    NoProvider."""
    found = here.routes.plan(name, feature)
    word = request.headers.get(HEADER, "")
    if word or who.local:
        found = _narrowed(found, who, _word(word))
    if found.reach == ANY and not found.claim and _only_there(here, found.model):
        return replace(found, reach=CLOUD)
    return found


def _only_there(here: Context, model: str) -> bool:
    """Whether no worker serves `model` now, and a provider does."""
    return not here.catalog.serves(model) and here.catalog.provides(model)


def _word(text: str) -> str:
    word = text.strip().lower() or "allow"
    if word not in WORDS:
        why = f"{HEADER}: {text!r} is none of {', '.join(WORDS)}."
        raise InvalidRequest(why, param=HEADER)
    return word


def _narrowed(found: Plan, who: Principal, word: str) -> Plan:
    stays = found.reach == LOCAL or who.local or word == "never"
    if word == "only" and stays:
        why = "its key is strictly local" if who.local else "no provider is configured for it"
        raise NoProvider(f"{found.name!r} cannot be sent to a provider: {why}.", param=HEADER)
    if stays and found.reach == CLOUD:
        why = "its key is strictly local" if who.local else f"the request says {HEADER}: never"
        raise NoProvider(f"Only providers have the model {found.name!r}, and {why}.", param="model")
    if stays:
        return replace(found, reach=LOCAL)
    return replace(found, reach=CLOUD if word == "only" or found.reach == CLOUD else ANY)

"""What a request will use, and the most that its answer may have, as the body says it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schemas.api.endpoints import Endpoint
from schemas.errors import InvalidRequest, UnsupportedParameter

if TYPE_CHECKING:
    from ingress.models.routes import Plan

LETTERS = 4
"""Bytes of a request that make a token: English has as many letters."""
MEDIA = 4096
"""Most tokens that the prompt of a request with pictures or sounds is taken to have: their bytes
say nothing of their tokens."""
ANSWER = 1024
"""Tokens that an answer is taken to have if nothing limits it."""


def prompt(endpoint: Endpoint, asked: dict[str, Any], size: int) -> int:
    """Tokens of a request whose body has `size` bytes."""
    if endpoint.form is not None:
        return 0
    tokens = math.ceil(size / LETTERS)
    return tokens if endpoint.shape.is_text(asked) else min(tokens, MEDIA)


def answer(endpoint: Endpoint, asked: Mapping[str, Any]) -> int:
    """Tokens of all choices of the answer; 0 where there are no words to limit."""
    if not endpoint.api.limits:
        return 0
    given = [value for _, value in _limits(endpoint, asked) if value >= 0]
    tokens = max(given, default=endpoint.api.usual_limit or ANSWER)
    choices = [asked.get(name) for name in ("n", "best_of")]
    return tokens * max([1, *(each for each in choices if isinstance(each, int))])


def bounded(
    most: int, plan: Plan, endpoint: Endpoint, asked: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The request with `most` as the limit of its answer if it sets none, and what its client is
    told of that. Raises InvalidRequest for more, and UnsupportedParameter if nobody would heed
    it."""
    found = dict(_limits(endpoint, asked))
    for name, value in found.items():
        if not 0 <= value <= most:
            said = "no limit" if value < 0 else f"{value}"
            why = f"'{name}' says {said}: an answer for this key may have {most} tokens at most."
            raise InvalidRequest(why, param=name)
    if found or not endpoint.api.limits:
        return asked, ""
    name = _heeded(most, plan, endpoint, asked)
    return {**asked, name: most}, f"{name} is {most}, the limit of this key"


def _heeded(most: int, plan: Plan, endpoint: Endpoint, asked: Mapping[str, Any]) -> str:
    """The field of a limit that whoever serves the model heeds."""
    for name in endpoint.api.limits:
        request = {**asked, name: most}
        lost = () if plan.honours(request) else plan.ability.lost(plan.model, request)
        if all(each.field != name for each in lost):
            return name
    name = endpoint.api.limits[0]
    why = f"Answers for this key may have {most} tokens at most, and {plan.name} heeds no limit."
    raise UnsupportedParameter(why, param=name)


def _limits(endpoint: Endpoint, asked: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The request's limits of its answer."""
    for name in endpoint.api.limits:
        if type(value := asked.get(name)) is int:
            yield name, value

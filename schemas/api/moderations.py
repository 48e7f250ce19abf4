"""``POST /v1/moderations``: texts or parts in, a judgement of each out."""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.shape import Model, Request, Shape, invalid
from schemas.api.tools import check_parts


class ModerationRequest(TypedDict, total=False):
    model: Model | None
    input: Required[str | Annotated[list[str | dict[str, Any]], Field(min_length=1)]]


def _check(request: Request) -> None:
    """Several texts get one result each, several parts get one result together: no mixture."""
    given = request["input"]
    kinds = set() if isinstance(given, str) else set(map(type, given))
    if len(kinds) > 1:
        raise invalid("input", "strings, or parts, are needed, and only one of these kinds")
    if kinds == {dict}:
        check_parts(given, "input", "text")


REQUEST = Shape(ModerationRequest, _check, content="input")

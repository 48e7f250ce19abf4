"""Lists of models in Anthropic's form: pages with cursors, and fields of its own. Pure.

Clients that send the header ``anthropic-version`` get them. Source: Anthropic's API reference.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from schemas.api.shape import invalid

USUAL, MOST = 20, 1000
"""Models on a page: by default, and at most."""
_STAGE = "active"
"""The stage in the lifecycle of every model here: a model that is served can be used."""


def told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One model, from its entry in OpenAI's list."""
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": entry["id"],
        "created_at": f"{datetime.fromtimestamp(entry['created'], UTC):%Y-%m-%dT%H:%M:%SZ}",
        "lifecycle": _STAGE,
        "deprecated_at": None,
        "line": None,
        "capabilities": None,
        "max_input_tokens": entry["headrace"]["context"] or None,
        "max_tokens": None,
        "headrace": entry["headrace"],
    }


def page(
    names: list[str], asked: QueryParams, entry: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """A page of the models (`names`, sorted) after `after_id`, or before `before_id`, or between
    both.

    A cursor is a place in the order of the names, so a model that left meanwhile is one, too.
    Raises InvalidRequest.
    """
    stages = [*asked.getlist("lifecycle"), *asked.getlist("lifecycle[]")]
    names = names if not stages or _STAGE in stages else []
    limit = _limit(asked.get("limit", str(USUAL)))
    after, before = asked.get("after_id"), asked.get("before_id")
    first = 0 if after is None else bisect_right(names, after)
    last = len(names) if before is None else bisect_left(names, before)
    if after is None and before is not None:
        first = max(0, last - limit)
        more = first > 0
    else:
        more = first + limit < last
        last = min(first + limit, last)
    found = [told(entry(name)) for name in names[first:last]]
    ends = (found[0]["id"], found[-1]["id"]) if found else (None, None)
    return {"data": found, "first_id": ends[0], "last_id": ends[1], "has_more": more}


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MOST)) or not 1 <= int(text) <= MOST:
        raise invalid("limit", f"it has to be a whole number from 1 to {MOST}")
    return int(text)

"""Which requests get the same answer again, and what a client says of kept answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.api.endpoints import (
    CHAT,
    COMPLETIONS,
    EDITS,
    IMAGES,
    INFILL,
    MESSAGES,
    OWN_COMPLETION,
    RESPONSES,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    Endpoint,
)

_WRITTEN = frozenset(
    each.word for each in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, OWN_COMPLETION, INFILL)
)
_DRAWN = frozenset({IMAGES.word, EDITS.word})
_HEARD = frozenset({TRANSCRIPTIONS.word, TRANSLATIONS.word})
_LAST_SEED = 2**32 - 2
"""The seed behind it, and each below 0, means "draw one" to an engine."""
_ELSEWHERE = frozenset(
    {
        *("previous_response_id", "previous_response", "conversation", "background", "prompt_id"),
        *("web_search_options", "mcp_servers", "container", "kv_transfer_params"),
    }
)
"""Fields whose answers depend on what is kept, or found, elsewhere."""
_SECONDS = re.compile(r"[0-9]{1,9}")


def repeats(endpoint: Endpoint, asked: Mapping[str, Any]) -> bool:
    """Whether the answer to a checked request is settled by the request."""
    if not _ELSEWHERE.isdisjoint(asked):
        return False
    word, heat = endpoint.word, asked.get("temperature")
    if word in _WRITTEN:
        return (heat == 0 or _is_seeded(asked)) and _has_own_tools(endpoint, asked)
    if word in _DRAWN:
        return _is_seeded(asked)
    return endpoint.steady and (word not in _HEARD or not heat)


def _is_seeded(asked: Mapping[str, Any]) -> bool:
    seed = asked.get("seed")
    return type(seed) is int and 0 <= seed <= _LAST_SEED


def _has_own_tools(endpoint: Endpoint, asked: Mapping[str, Any]) -> bool:
    """Whether its client runs all tools itself: others look something up, or do something."""
    own, tools = endpoint.api.own_tools, asked.get("tools")
    if not isinstance(tools, list):
        return not tools
    return all(isinstance(tool, dict) and tool.get("type") in own for tool in tools)


class Wish(NamedTuple):
    """What ``Cache-Control`` says. `age`: most seconds that an answer may have; None: any."""

    reads: bool = True
    writes: bool = True
    age: float | None = None
    only: bool = False


ANY = Wish()


def wish(control: str) -> Wish:
    """The directives of a request (RFC 9111, section 5.2.1); unknown ones say nothing."""
    if not control:
        return ANY
    said: dict[str, str] = {}
    for directive in control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        said[name.strip()] = value.strip().strip('"')
    writes = "no-store" not in said
    age = float(said["max-age"]) if _SECONDS.fullmatch(said.get("max-age", "")) else None
    reads = writes and "no-cache" not in said and age != 0
    return Wish(reads, writes, age, "only-if-cached" in said)

"""Which fields of requests are hints, and what is done with tools that only a server can run.

A hint says how an answer is wished, or how the work is to be kept, billed or cached. An answer
without it is still an answer to the request. Half of all clients send hints by default, so a hint
that does nothing is only told of, in a header. Any other field that would do nothing is refused,
because the answer would mean something else. `docs/fields.md` shows the classes of all fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Request = Mapping[str, Any]

CHAT, TEXT, EMBED = ("chat",), ("completions",), ("embeddings",)
RESPONSES, MESSAGES = ("responses", "input_tokens"), ("messages", "count_tokens")
TALKS = (*CHAT, *TEXT, *RESPONSES, *MESSAGES)
"""Words on cards of endpoints that have the same fields."""

CACHE_CONTROL = "cache_control"
HINTS: Mapping[str, tuple[str, ...]] = {
    "reasoning_effort": CHAT,
    "think": CHAT,
    "reasoning": RESPONSES,
    "thinking": MESSAGES,
    "output_config.effort": MESSAGES,
    "output_config.task_budget": MESSAGES,
    "verbosity": (*CHAT, *RESPONSES),
    "text.verbosity": RESPONSES,
    "prediction": CHAT,
    "truncation": RESPONSES,
    "max_tool_calls": RESPONSES,
    "include": RESPONSES,
    "seed": MESSAGES,
    "context_management": (*RESPONSES, *MESSAGES),
    "speed": MESSAGES,
    "service_tier": TALKS,
    "store": (*CHAT, *RESPONSES),
    "prompt_cache_key": TALKS,
    "prompt_cache_retention": TALKS,
    "prompt_cache_options": TALKS,
    CACHE_CONTROL: TALKS,
    "stream_options.include_obfuscation": (*CHAT, *RESPONSES),
    "keep_alive": (*TALKS, *EMBED),
}
"""By the field's path, the endpoints (words on cards) where it is a hint. A path stands for all
below it."""

SILENT = frozenset({"user", "metadata", "safety_identifier"})
"""Fields of the client's own account. They have no effect on an answer anywhere, nobody expects
one, and so nothing is said of them."""


def is_hint(path: str, endpoint: str) -> bool:
    """Whether the field at `path` (``text.verbosity``) is a hint at `endpoint`, a word on cards."""
    return endpoint in HINTS.get(path, ()) or endpoint in HINTS.get(path.partition(".")[0], ())


@dataclass(frozen=True, slots=True)
class Left:
    """A `request` without the tools of a server. `dropped`: the type of each of these by its place
    (``tools[1]``). `forced`: `tool_choice` asks for one of them. `alone`: there is no other tool.
    """

    request: dict[str, Any]
    dropped: Mapping[str, str]
    forced: bool
    alone: bool


def without_server_tools(request: Request, own: Sequence[str | None]) -> Left | None:
    """None if all tools are of the types `own`, which clients run themselves."""
    tools = request.get("tools") or ()
    dropped = {place: tool for place, tool in enumerate(tools) if tool.get("type") not in own}
    if not dropped:
        return None
    kept = [tool for place, tool in enumerate(tools) if place not in dropped]
    forced = _forces(request.get("tool_choice"), list(dropped.values()), kept)
    left = {name: value for name, value in request.items() if name != "tools"}
    if kept:
        left["tools"] = kept
    if forced or not kept:  # it names a tool that is gone, or demands a call where there is no tool
        left.pop("tool_choice", None)
    types = {f"tools[{place}]": str(tool.get("type")) for place, tool in dropped.items()}
    return Left(left, types, forced, not kept)


def _forces(choice: Any, dropped: Sequence[Request], kept: Sequence[Request]) -> bool:
    """Whether `tool_choice` names one of the `dropped` tools: by its type, as OpenAI's APIs do, or
    by its name, as Anthropic's does."""
    if not isinstance(choice, Mapping):
        return False
    if choice.get("type") in [tool.get("type") for tool in dropped]:
        return True
    if choice.get("type") != "tool" or any(tool.get("name") == choice.get("name") for tool in kept):
        return False
    return any(tool.get("name") == choice.get("name") for tool in dropped)

"""Which kind of server an engine says that it is, so that one of another kind than its settings
name is noticed: most of it would work, and some of it silently would not."""

from __future__ import annotations

from typing import Any

import orjson

from workers.engines.base import EngineFault
from workers.engines.http.upstream import Upstream

TIMEOUT = 2.0
_PAGE = "/v1/models"
_MOST = 2**20
"""Most bytes of its page that are read."""

_OWNERS = {"llamacpp": "llamacpp", "vllm": "vllm", "library": "ollama"}
"""By `owned_by` of its models."""
_SERVERS = {"llama.cpp": "llamacpp", "whisper.cpp": "whisper"}
"""By its header `Server`."""
_MODELS = {"sd-cpp-local": "sdcpp"}
"""By the name that its model always has."""
_NAMES = {
    "llamacpp": "llama-server",
    "vllm": "vLLM",
    "ollama": "Ollama",
    "whisper": "whisper-server",
    "sdcpp": "sd-server",
}
_FITS = {"embedded": ("llamacpp",), "openai": tuple(_NAMES)}
"""Kinds that are right for servers of other names. `openai` is for whatever speaks OpenAI's API."""


async def ask(http: Upstream, timeout: float = TIMEOUT) -> str:
    """The kind that the server says it is; "" if it says none that is known within `timeout`
    seconds."""
    try:
        status, server, page = await http.head_and_page(_PAGE, timeout, _MOST)
    except EngineFault:
        return ""
    return _SERVERS.get(server, "") or (_told(page) if status == 200 else "")


def _told(page: bytes) -> str:
    try:
        entry: dict[str, Any] = orjson.loads(page)["data"][0]
        return _OWNERS.get(entry.get("owned_by", ""), "") or _MODELS.get(entry.get("id", ""), "")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return ""


def mismatch(name: str, kind: str, said: str) -> str:
    """What is wrong with an engine of this `kind` whose server says that it is of the kind `said`;
    "" if nothing is."""
    if not said or said in (kind, *_FITS.get(kind, ())):
        return ""
    return (
        f"it is {_NAMES[said]}, and named as kind {kind!r} here: set kind = {said!r}, "
        f"or --engine {said}:{name}=URL"
    )

"""What Ollama's OpenAI and Anthropic endpoints are sent in place of what a client said. Pure.

Source at fb30760: a degree of thinking that Ollama does not know, or any at a model that does not
reason, is a 400. "minimal" would be its "low". In chats, Ollama's own `reasoning` counts before all
else. `max_completion_tokens` is unknown to it, and so is a choice of tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api import endpoints
from schemas.api.reasoning import UNSAID

MAPPED = ("reasoning_effort", "think", "reasoning", "reasoning.effort")
"""Fields that are said in Ollama's own words."""
_DEGREES = ("low", "medium", "high", "xhigh", "max")
_MESSAGES = endpoints.MESSAGES.path
_NO_TOOL = ("none", {"type": "none"})


def changes(path: str, request: Mapping[str, Any], thinks: bool) -> dict[str, Any]:
    """The fields to set; None takes one out. `thinks`: the model reasons."""
    changed = _thinking(path, request, thinks)
    limit = request.get("max_completion_tokens")
    if limit is not None and request.get("max_tokens") is None:
        changed["max_tokens"] = limit
    if request.get("tool_choice") in _NO_TOOL and request.get("tools"):
        changed["tools"] = []
    return changed


def _thinking(path: str, request: Mapping[str, Any], thinks: bool) -> dict[str, Any]:
    wanted = endpoints.BY_PATH[path].api.reasoning(request)
    if wanted == UNSAID:
        return {}
    if path == _MESSAGES:  # they go as they are, but a model that does not reason refuses them
        return {} if thinks else {"thinking": None, "output_config": None}
    effort = "none" if wanted.on is False else wanted.degree(*_DEGREES) or "medium"
    said = effort if thinks else None
    if path == endpoints.RESPONSES.path:
        return {"reasoning": {**request["reasoning"], "effort": said}}
    return {"reasoning_effort": said, "think": None}

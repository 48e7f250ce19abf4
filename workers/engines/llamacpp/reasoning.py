"""Tells llama-server how much the model is to think. Pure.

Measured on b11549: chats and responses obey `reasoning_effort` "none", but pass over "minimal", and
over other words unless the chat template knows degrees. Messages obey a budget alone. All of them
obey `chat_template_kwargs`, and chats and responses `thinking_budget_tokens`. The field
`reasoning_effort` would count before the same word in `chat_template_kwargs`, so it is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api import endpoints
from schemas.api.reasoning import BRIEF, UNSAID
from workers.engines.openai import parsed
from workers.engines.openai.continued import last_of_assistant

Request = dict[str, Any]

SIGNS = b'"reasoning_effort"', b'"reasoning"', b'"think"', b'"thinking"', b'"output_config"'
"""Each request that says how much to think contains one of these."""
_BUDGETS = ("thinking_budget_tokens", "reasoning_budget_tokens")
"""llama-server's own fields."""
_SAID = ("reasoning_effort", "think", "reasoning", "thinking")
MAPPED = (*_SAID, "reasoning.effort", "output_config.effort")
"""Fields that are said in llama-server's own words."""
_MESSAGES = (endpoints.MESSAGES.path, endpoints.COUNT_TOKENS.path)


def mapped(body: bytes, path: str, degrees: bool) -> bytes:
    """The body with llama-server's own fields in place of those of the API at `path`. `degrees`:
    the chat template knows low, medium and high. What the client says in llama-server's own fields
    counts before all else."""
    request: Request = parsed.load(body)
    wanted = endpoints.BY_PATH[path].api.reasoning(request)
    own = request.get("chat_template_kwargs") or {}
    if wanted == UNSAID or not isinstance(own, Mapping):
        return body
    said: Request = {}
    # llama-server refuses to go on from an answer and to think before it.
    if wanted.on is not None and not (wanted.on and last_of_assistant(request)):
        said["enable_thinking"] = wanted.on
    if degrees and wanted.effort:
        said["reasoning_effort"] = wanted.degree("low", "medium", "high")
    sent = {name: value for name, value in request.items() if name not in _SAID}
    sent["chat_template_kwargs"] = {**said, **own}  # the client's own words count
    brief = BRIEF if wanted.effort == "low" and not degrees and wanted.on is not False else None
    budget = wanted.budget if wanted.budget is not None else brief
    if budget is not None and not any(name in request for name in _BUDGETS):
        sent |= _budget(path, budget)
    return parsed.write(sent, body)


def _budget(path: str, tokens: int) -> Request:
    if path in _MESSAGES:
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return {"thinking_budget_tokens": tokens}

"""How much a request wants the model to think before it answers, whatever its API calls that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OFF = ("none", "minimal")
"""OpenAI's words for an answer without thoughts, or with hardly any."""
BRIEF = 1024
"""Tokens of thoughts for the effort "low" where a model knows no degrees. The number is that of
Google's page "OpenAI compatibility"."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """`on`: None leaves it to the model. `effort`: a word such as ``low``, "" if none was said.
    `budget`: the most tokens of thoughts, None if nothing was said."""

    on: bool | None = None
    effort: str = ""
    budget: int | None = None

    def degree(self, *known: str) -> str:
        """The one of the words `known`, which lead from little to much, that is nearest to the
        effort; "" if no effort was said."""
        if not self.effort or self.effort in known:
            return self.effort
        return known[0] if self.effort in OFF else known[-1]


UNSAID = Reasoning()


def of_effort(effort: Any) -> Reasoning:
    """What OpenAI's `reasoning_effort` asks for, or Ollama's `think`, which may be a boolean."""
    if isinstance(effort, bool):
        return Reasoning(effort)
    if not isinstance(effort, str) or not effort:
        return UNSAID
    return Reasoning(effort not in OFF, effort)


def of_message(request: Mapping[str, Any]) -> Reasoning:
    """What Anthropic's `thinking` and `output_config.effort` ask for."""
    thinking, output = request.get("thinking"), request.get("output_config")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    effort = output.get("effort") if isinstance(output, Mapping) else None
    effort = effort if isinstance(effort, str) else ""
    if kind == "disabled":
        return Reasoning(False, effort)
    # The type "adaptive" leaves it to the model, as a request without `thinking` does.
    if not isinstance(thinking, Mapping) or kind != "enabled":
        return Reasoning(None, effort)
    budget = thinking.get("budget_tokens")
    return Reasoning(True, effort, budget if isinstance(budget, int) else None)

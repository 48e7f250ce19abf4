"""Estimates how many tokens a prompt has; `fallback.cost.pricing` gives the upper bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LETTERS = 4
"""Letters of a token on average (OpenAI's and Google's rule of thumb for English)."""
_PICTURE = 256
"""Tokens of a picture, between those of a small and of a large one."""
_PICTURES = ("image_url", "image", "input_image")
_READ = ("messages", "system", "prompt", "input", "instructions", "tools")
_UNREAD = frozenset({"role", "type", "id", "image_url", "input_audio", "source", "file", "data"})


def prompt_tokens(request: Mapping[str, Any]) -> int:
    """Estimate from the letters; prompts that are lists of tokens are counted exactly."""
    letters = tokens = 0
    rest: list[Any] = [request.get(name) for name in _READ]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            letters += len(value)
        elif isinstance(value, Mapping):
            tokens += _PICTURE * (value.get("type") in _PICTURES)
            rest += [each for name, each in value.items() if name not in _UNREAD]
        elif isinstance(value, list):
            if value and all(isinstance(each, int) for each in value):
                tokens += len(value)
            else:
                rest += value
    return tokens + -(-letters // LETTERS)

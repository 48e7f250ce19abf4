"""Turns llama-server's log-probabilities into OpenAI's form. Pure.

Measured on b11549: if a request wants only the chosen tokens' (a chat's `top_logprobs` 0, a text's
`logprobs` 0), llama-server gives none. So the worker asks for one alternative and removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event
from workers.engines.openai.rewrite import Change


def prepare(request: dict[str, Any], text: bool) -> tuple[dict[str, Any], list[Change]]:
    """The request to send, and the changes to make in each event or in the document, in order.
    `text`: the request is a text completion, not a chat."""
    wanted = _of_text(request) if text else request.get("top_logprobs")
    changes: list[Change] = [TextProbabilities().change] if text and wanted is not None else []
    if wanted != 0:
        return request, changes
    return {**request, "logprobs" if text else "top_logprobs": 1}, [_without_others, *changes]


def _of_text(request: Mapping[str, Any]) -> int | None:
    """How many alternatives a text completion wants; None for no log-probabilities at all."""
    found = request.get("logprobs")
    return None if found is False else found


def _without_others(event: Event) -> Event:
    for choice in event.get("choices") or ():
        for token in (choice.get("logprobs") or {}).get("content") or ():
            token["top_logprobs"] = []
    return event


class TextProbabilities:
    """Adds OpenAI's form for text completions: llama-server writes a chat's form (`content`, which
    stays). Offsets count from the beginning of the answer."""

    def __init__(self) -> None:
        self._at: dict[int, int] = {}

    def change(self, event: Event) -> Event:
        for choice in event.get("choices") or ():
            probable = choice.get("logprobs")
            if isinstance(probable, dict) and "tokens" not in probable:
                choice["logprobs"] = self._listed(choice.get("index", 0), probable)
        return event

    def _listed(self, index: int, probable: dict[str, Any]) -> dict[str, Any]:
        content = probable.get("content") or []
        offsets, at = [], self._at.get(index, 0)
        for token in content:
            offsets.append(at)
            at += len(token["token"])
        self._at[index] = at
        return {
            "tokens": [token["token"] for token in content],
            "token_logprobs": [token["logprob"] for token in content],
            "top_logprobs": [
                {top["token"]: top["logprob"] for top in token.get("top_logprobs") or ()}
                for token in content
            ],
            "text_offset": offsets,
            **probable,
        }

"""Log-probabilities as OpenAI has them, of llama-server. Pure.

Measured on b11549: where only those of the chosen tokens are asked for (`top_logprobs` 0 of a chat,
`logprobs` 0 of a text) it gives none at all. So one more is asked for, and taken out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.engines.openai.rewrite import Change, Event


def chosen_alone(request: Mapping[str, Any], text: bool) -> bool:
    """`text`: it is a text completion, not a chat."""
    return _of_text(request) == 0 if text else request.get("top_logprobs") == 0


def asking_for_one(request: Mapping[str, Any], text: bool) -> dict[str, Any]:
    return {**request, "logprobs" if text else "top_logprobs": 1}


def changes(request: Mapping[str, Any], text: bool) -> list[Change]:
    """What to do with each event, or with the document, in this order."""
    found: list[Change] = [_without_others] if chosen_alone(request, text) else []
    if text and _of_text(request) is not None:
        found.append(TextProbabilities().change)
    return found


def _of_text(request: Mapping[str, Any]) -> int | None:
    """How many others a text completion asks for beside each token; false is none of any."""
    found = request.get("logprobs")
    return None if found is False else found


def _without_others(event: Event) -> Event:
    for choice in event.get("choices") or ():
        for token in (choice.get("logprobs") or {}).get("content") or ():
            token["top_logprobs"] = []
    return event


class TextProbabilities:
    """Those of text completions as OpenAI has them: llama-server writes them as in
    chats (`content`, which stays). Offsets count from the beginning of the answer."""

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

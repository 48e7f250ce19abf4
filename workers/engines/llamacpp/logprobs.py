"""Turns llama-server's log-probabilities into OpenAI's form. Pure.

Measured on b11549: if a request wants only the chosen tokens' (a chat's `top_logprobs` 0, a text's
`logprobs` 0), llama-server gives none. So the worker asks for one alternative and removes it.
With tools, it refuses `logprobs` in a stream, and the worker always asks for a stream. It takes
`n_probs`, its own name for the same: then texts have theirs, and a piece of a call has those of its
last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event
from workers.engines.base import Sink
from workers.engines.openai import parsed
from workers.engines.openai.rewrite import Change, Rewriting

SIGN = b'"logprobs"'
_USUAL = 20
"""How many alternatives llama-server gives if `top_logprobs` is not set."""


def prepare(request: dict[str, Any], text: bool) -> tuple[dict[str, Any], list[Change]]:
    """The request to send, and the changes to make in each event or in the document, in order.
    `text`: the request is a text completion, not a chat."""
    wanted = _of_text(request) if text else request.get("top_logprobs")
    changes: list[Change] = [TextProbabilities().change] if text and wanted is not None else []
    if wanted != 0:
        return request, changes
    return {**request, "logprobs" if text else "top_logprobs": 1}, [_without_others, *changes]


def beside_tools(body: bytes, sink: Sink) -> tuple[bytes, Sink]:
    """The body of a chat to send, and where its stream goes. As at OpenAI, a call has none."""
    request: dict[str, Any] = parsed.load(body)
    if not (request.get("tools") and request.get("logprobs")):
        return body, sink
    most = request.pop("top_logprobs", None)
    del request["logprobs"]
    # What the client itself says by this name counts.
    request.setdefault("n_probs", _USUAL if most is None else most)
    return parsed.write(request, body), Rewriting(sink, _of_words_alone, signs=(SIGN,))


def _of_words_alone(event: Event) -> Event:
    for choice in event.get("choices") or ():
        if not (choice.get("delta") or {}).get("content"):
            choice["logprobs"] = None
    return event


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
            **probable,  # the form of chats stays beside it
        }

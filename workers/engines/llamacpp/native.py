"""Text completions that llama-server takes at its own endpoints alone: prompts of a model that
sees, and a text between two others.

Measured on b11549: once the model sees or hears, ``/v1/completions`` takes one text and nothing
else: a list of texts or token ids is a 400. Its own ``/completion`` takes every form of
`schemas.api.prompts`, so the worker asks there and writes the events as those of
``/v1/completions``. Each server draws its own marker for pictures. Clients write the marker of
llama.cpp's library, so it is replaced.

``/v1/completions`` passes over a `suffix`. ``/infill`` heeds it, if the model knows tokens for a
text between two others; what is too long for a batch it cuts, of the prompt the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from schemas.api import prompts, sse
from schemas.api.base import Event
from schemas.api.endpoints import INFILL, OWN_COMPLETION
from workers.engines.http.connection import Response
from workers.engines.llamacpp.capabilities import senses
from workers.engines.openai import parsed
from workers.engines.openai.refusal import Refusal

PATH, BETWEEN = OWN_COMPLETION.path, INFILL.path
_SUFFIX = b'"suffix"'
MARKER = "<__media__>"
"""For a picture or a recording, in llama.cpp's library."""


def marker(props: Mapping[str, Any]) -> str:
    """The server's own for a picture or a recording."""
    return str(props.get("media_marker") or MARKER)


def own_form(
    body: bytes, features: Collection[str], props: Mapping[str, Any]
) -> tuple[str, bytes] | None:
    """The path to ask in place of ``/v1/completions``, and the body; None if that can have it.
    `features`: the model's. `props`: the server's ``/props``. Raises Refusal."""
    if INFILL.word in features and (sent := between(body)):
        return BETWEEN, sent
    if senses(props) and (sent := prepare(body, marker(props))):
        return PATH, sent
    return None


def prepare(body: bytes, marker: str) -> bytes | None:
    """The body for `PATH`; None if the prompt is one text. `marker`: the server's own."""
    request: dict[str, Any] = parsed.load(body)
    prompt = request["prompt"]
    if isinstance(prompt, str):
        return None
    return parsed.write(_own({**request, "prompt": marked(prompt, marker)}), body)


def between(body: bytes) -> bytes | None:
    """The body for `BETWEEN`; None if there is no text behind. Raises Refusal."""
    if _SUFFIX not in body:
        return None
    request: dict[str, Any] = parsed.load(body)
    if not (behind := request.pop("suffix", None)):
        return None
    if not isinstance(before := request.pop("prompt"), str):
        why = "With a suffix llama-server takes one text as the prompt."
        raise Refusal(why, param="prompt", code="unsupported_parameter")
    sent = {"input_prefix": before, "input_suffix": behind, **request}
    return parsed.write(_own(sent), body)


def _own(sent: dict[str, Any]) -> dict[str, Any]:
    """In the words of llama-server's own endpoints."""
    if (most := sent.pop("logprobs", None)) not in (None, False):
        sent.setdefault("n_probs", most)
    if (limit := sent.pop("max_completion_tokens", None)) is not None:
        sent.setdefault("max_tokens", limit)
    if isinstance(stop := sent.get("stop"), str):  # they take a list alone
        sent["stop"] = [stop]
    return sent


def marked(prompt: Any, marker: str) -> Any:
    """A prompt with the server's own `marker` in the place of the usual one."""
    if isinstance(prompt, list):
        return [marked(each, marker) for each in prompt]
    if isinstance(prompt, dict) and prompt.get(prompts.DATA):
        return {**prompt, prompts.TEXT: prompt[prompts.TEXT].replace(MARKER, marker)}
    return prompt


class AsCompletion(Response):
    """The answer of `PATH` or `BETWEEN`, read as one of ``/v1/completions``. `name`: its id."""

    def __init__(self, inner: Response, name: str) -> None:
        super().__init__()
        self.status, self.headers = inner.status, inner.headers
        self._inner = inner
        self._name = name
        self._created = int(time.time())
        self._splitter = sse.Splitter()
        self._running: set[int] = set()
        self._ended: set[int] = set()

    async def beginning(self) -> bytes:
        return await self._inner.beginning()

    async def readany(self) -> bytes:
        while not self.complete:
            piece = await self._inner.readany()
            if not piece:
                self.complete = True
                # `PATH` has no [DONE]. It is added only if each choice has stopped.
                return sse.DONE if self._ended and self._ended == self._running else b""
            events = map(self._event, sse.split(self._splitter.feed(piece)))
            if changed := b"".join(events):
                return changed
        return b""

    def _event(self, raw: bytes) -> bytes:
        found = sse.load(raw)
        if not isinstance(found, dict) or "content" not in found:
            return raw + sse.BREAK
        return sse.dump(self._chunk(found))

    def _chunk(self, found: Event) -> Event:
        index, probable = found.get("index", 0), found.get("completion_probabilities")
        self._running.add(index)
        choice = {
            "text": found["content"],
            "index": index,
            "logprobs": {"content": probable} if probable else None,
            "finish_reason": None,
        }
        chunk = {
            "choices": [choice],
            "created": self._created,
            "model": found.get("model", ""),
            "object": "text_completion",
            "id": self._name,
        }
        if not found.get("stop"):
            return chunk
        self._ended.add(index)
        choice["finish_reason"] = "length" if found.get("stop_type") == "limit" else "stop"
        return {**chunk, **_counts(found)}


def _counts(last: Event) -> Event:
    """The usage and the timings of a choice, from its last event."""
    read, written = last.get("tokens_evaluated", 0), last.get("tokens_predicted", 0)
    timings = last.get("timings") or {}
    usage = {
        "completion_tokens": written,
        "prompt_tokens": read,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": timings.get("cache_n", 0)},
    }
    return {"usage": usage, "timings": timings}

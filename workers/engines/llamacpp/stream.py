"""Mends the beginning and the token counts of llama-server's chat and completion streams.

Measured on llama.cpp b11549: each choice ends with its own report of tokens. A chat sends it in a
chunk with empty `choices`, but only if `stream_options.include_usage` asks for it. A text
completion always sends it, in the chunk with the finish reason. A chat without `include_usage`
has `timings` in each choice's last chunk: `prompt_n` tokens computed, `cache_n` found in the cache,
`predicted_n` generated. All choices of a prompt report the same prompt tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from schemas.api import sse
from schemas.api.base import Event, Usage, counted
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter

COUNTS = b'"usage"', b'"timings"', b"data: null", b"[DONE]"
"""Signs of the events that `OneUsage` changes. Inside a text the quotes would be escaped."""
_NULL = b'"delta":{"role":"assistant","content":null}'
_EMPTY = b'"delta":{"role":"assistant","content":""}'
_TOP = ("created", "id", "model", "system_fingerprint", "object")


class FirstChunk(Filter):
    """A Sink before the Sink: each choice of a chat begins with empty content instead of
    llama-server's null. The bytes are replaced without parsing, which is safe as quotes inside a
    JSON string are escaped. Once all choices have begun, chunks pass unchanged.

    llama-server leaves out the role if the first token is only part of a character (an emoji);
    a single choice then gets it here.
    """

    def __init__(self, inner: Sink, choices: int) -> None:
        super().__init__(inner)
        self._left = choices
        self._alone = choices == 1

    def data(self, chunk: bytes) -> None:
        if self._left > 0:
            found = chunk.count(_NULL)
            if not found and self._alone and chunk.startswith(b"data: {"):
                chunk, found = _begun(chunk) + chunk, 1
            self._left -= found
            chunk = chunk.replace(_NULL, _EMPTY)
        self._inner.data(chunk)


def _begun(chunk: bytes) -> bytes:
    """The event with the role that `chunk` lacks; nothing if its first event has a role."""
    event = chunk.partition(sse.BREAK)[0]
    if b'"role":' in event:
        return b""
    top = _top(sse.load(event))
    delta = {"role": "assistant", "content": ""}
    return sse.dump({"choices": [{"finish_reason": None, "index": 0, "delta": delta}], **top})


class UsageSum:
    """Adds up the token reports of all choices; `n` is the number of choices for one prompt. A
    report that comes again counts once, and the last one does."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._closing: list[dict[str, Any]] = []
        self._running: dict[int, dict[str, Any]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        # Without `include_usage`, a chat has only its timings.
        report = event.get("usage") or _report_of(event.get("timings"))
        if not isinstance(report, dict):
            return
        if choices := event.get("choices"):
            self._running[choices[0].get("index", 0)] = report
        else:
            self._closing.append(report)

    def total(self) -> Usage | None:
        reports = [told for report in self._reports() if (told := counted(report))]
        if len(reports) < 2:
            return reports[0] if reports else None
        # An engine that adds up by itself sends one report for several choices.
        share = min(self._n, len(reports))
        return Usage(
            prompt=sum(each.prompt for each in reports) // share,
            completion=sum(each.completion for each in reports),
            cached=sum(each.cached for each in reports) // share,
        )

    def document(self) -> dict[str, Any] | None:
        """The answer's `usage`; a single report is kept as the engine wrote it."""
        reports = self._reports()
        if len(reports) == 1 or (total := self.total()) is None:
            return reports[0] if reports else None
        details = {**(reports[0].get("prompt_tokens_details") or {}), "cached_tokens": total.cached}
        return {
            **reports[0],
            "completion_tokens": total.completion,
            "prompt_tokens": total.prompt,
            "total_tokens": total.prompt + total.completion,
            "prompt_tokens_details": details,
        }

    def _reports(self) -> list[dict[str, Any]]:
        if not self._closing:
            return [self._running[index] for index in sorted(self._running)]
        found = [*self._closing]
        while len(found) > self._n:  # only chats report so, and they have one prompt
            pairs = enumerate(pairwise(found))
            del found[next((at for at, (one, next_) in pairs if one == next_), 0)]
        return found


class OneUsage:
    """Replaces llama-server's report for each choice by one for all, at the end of the stream, if
    the client wants one. In text completions llama-server reports even if nobody asks."""

    def __init__(self, choices: int, wanted: bool) -> None:
        self._sum = UsageSum(choices)
        self._wanted = wanted
        self._top: Event = {}
        self.usage = self._sum.total

    def change(self, event: Event) -> Event | None:
        self._sum.add(event)
        self._top = self._top or _top(event)
        if not event.get("choices"):
            return None
        event.pop("usage", None)  # a text completion has it with its last words
        return event

    def last(self) -> Event | None:
        usage = self._sum.document() if self._wanted else None
        return {"choices": [], **self._top, "usage": usage} if usage else None


def timed(tail: bytes) -> Usage | None:
    """The tokens in the last `timings` of a stream of one choice; `tail`: its last events."""
    for event in sse.having(tail, b'"timings"'):
        for found in sse.objects(event):
            if usage := _usage_of(found.get("timings")):
                return usage
    return None


def _usage_of(timings: object) -> Usage | None:
    if not isinstance(timings, dict):
        return None
    told = map(timings.get, ("prompt_n", "cache_n", "predicted_n"))
    computed, cached, generated = (each if isinstance(each, int) else 0 for each in told)
    return Usage(computed + cached, generated, cached)


def _report_of(timings: object) -> dict[str, Any] | None:
    """`timings` as the `usage` of a document."""
    usage = _usage_of(timings)
    if usage is None:
        return None
    return {
        "completion_tokens": usage.completion,
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def _top(event: Event) -> Event:
    return {key: event[key] for key in _TOP if key in event}

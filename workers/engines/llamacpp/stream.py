"""Mends the beginning and the token counts of llama-server's chat and completion streams.

Measured on llama.cpp b11549: each choice ends with its own report of tokens. A chat sends it in a
chunk with empty `choices`, but only if `stream_options.include_usage` asks for it. A text
completion always sends it, in the chunk with the finish reason. A chat without `include_usage`
has `timings` in each choice's last chunk: `prompt_n` tokens computed, `cache_n` found in the cache,
`predicted_n` generated. All choices of a prompt report the same prompt tokens.

A chat of one choice needs none of it, but for its beginning (`with_role`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from schemas.api import sse
from schemas.api.base import Event, Usage, counted
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter, usage_of_timings

COUNTS = b'"usage"', b'"timings"', b"data: null", b"[DONE]"
"""Signs of the events that `OneUsage` changes. Inside a text the quotes would be escaped."""
NULL = b'"delta":{"role":"assistant","content":null}'
EMPTY = b'"delta":{"role":"assistant","content":""}'
"""How a choice of a chat begins, and how it should. The bytes are replaced without parsing, which
is safe as quotes inside a JSON string are escaped."""
_TOP = ("created", "id", "model", "system_fingerprint", "object")


class FirstChunks(Filter):
    """A Sink before the Sink: each of several choices of a chat begins with empty content instead
    of llama-server's null. Once all have begun, chunks pass unchanged."""

    def __init__(self, inner: Sink, choices: int) -> None:
        super().__init__(inner)
        self._left = choices

    def data(self, chunk: bytes) -> None:
        if self._left > 0:
            self._left -= chunk.count(NULL)
            chunk = chunk.replace(NULL, EMPTY)
        self._inner.data(chunk)


def with_role(events: bytes) -> bytes:
    """The first events of a chat of one choice, with the role that llama-server leaves out if the
    first token is only part of a character (an emoji)."""
    first = next((each for each in sse.split(events) if each.startswith(b"data: {")), b"")
    if not first or b'"role":' in first:
        return events
    delta = {"role": "assistant", "content": ""}
    begun = {"choices": [{"finish_reason": None, "index": 0, "delta": delta}]}
    return sse.dump({**begun, **_top(sse.load(first))}) + events


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


def _report_of(timings: object) -> dict[str, Any] | None:
    """`timings` as the `usage` of a document."""
    usage = usage_of_timings(timings)
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

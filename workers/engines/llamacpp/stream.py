"""How llama-server's streams of chats and text completions begin, and what they say they took.

Measured on llama.cpp b11549: each choice closes with a report of its own, in chat on a chunk with
empty `choices` if `stream_options.include_usage` asked for it, in text completions always, on the
chunk with the finish reason. Without `include_usage` a chat's last chunk of each choice carries
`timings`: `prompt_n` tokens computed, `cache_n` found in the cache, `predicted_n` generated.
All choices of one prompt report that same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api import sse
from schemas.api.base import Event, Usage, counted
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter

COUNTS = b'"usage"', b'"timings"', b"data: null", b"[DONE]"
"""Signs of the events that `OneUsage` is about. Inside a text, the quotes would be escaped."""
_NULL = b'"delta":{"role":"assistant","content":null}'
_EMPTY = b'"delta":{"role":"assistant","content":""}'
_TOP = ("created", "id", "model", "system_fingerprint", "object")


class FirstChunk(Filter):
    """A Sink before the Sink: a choice of a chat begins with empty content, where llama-server's
    begins with null. Replaced as bytes, as quotes inside a JSON string are escaped. After the last
    choice has begun, chunks just pass.

    One whose first token is no whole character (an emoji) begins without a role there: a single
    choice gets it here.
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
    """The event that is missing before the first one of `chunk`; nothing if that has a role."""
    event = chunk.partition(sse.BREAK)[0]
    if b'"role":' in event:
        return b""
    top = _top(sse.load(event))
    delta = {"role": "assistant", "content": ""}
    return sse.dump({"choices": [{"finish_reason": None, "index": 0, "delta": delta}], **top})


class UsageSum:
    """Adds up the reports of a request's choices; `n` is the number of choices for one prompt."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._closing: list[dict[str, Any]] = []
        self._running: dict[int, dict[str, Any]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
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
        # One report for several choices is from an engine that has added up by itself.
        share = min(self._n, len(reports))
        return Usage(
            prompt=sum(each.prompt for each in reports) // share,
            completion=sum(each.completion for each in reports),
            cached=sum(each.cached for each in reports) // share,
        )

    def document(self) -> dict[str, Any] | None:
        """`usage` of the answer; what an engine has told once is kept as it is."""
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
        return self._closing or [self._running[index] for index in sorted(self._running)]


class OneUsage:
    """One count of tokens for all choices, and behind them, if it is wanted: llama-server gives one
    for each of them, and in text completions with the last words, wanted or not."""

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
        event.pop("usage", None)
        return event

    def last(self) -> Event | None:
        usage = self._sum.document() if self._wanted else None
        return {"choices": [], **self._top, "usage": usage} if usage else None


def timed(tail: bytes) -> Usage | None:
    """What the last `timings` say in the last events of a stream of one choice."""
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
    """The `usage` of a document that they amount to."""
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

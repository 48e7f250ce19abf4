"""How many tokens a llama-server answer took, from its stream.

Measured on llama.cpp b11549: each choice closes with a report of its own, in chat on a chunk with
empty `choices` if `stream_options.include_usage` asked for it, in text completions always, on the
chunk with the finish reason. Without `include_usage` a chat's last chunk of each choice carries
`timings`: `prompt_n` tokens computed, `cache_n` found in the cache, `predicted_n` generated.
All choices of one prompt report that same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request: `prompt` includes those found in the cache (`cached`)."""

    prompt: int
    completion: int
    cached: int


def last_usage(tail: bytes, n: int = 1) -> Usage | None:
    """Token counts of a stream that was passed on verbatim, from its last few kB.

    `n` is the request's number of choices for one prompt. With several choices, those count
    whose closing chunk lies within `tail`. None if no chunk in it says anything.
    """
    meter = Meter(n)
    for line in tail.split(b"\n"):
        if line.startswith(b"data:") and (b'"usage"' in line or b'"timings"' in line):
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict):
                meter.add(event)
    return meter.total()


class Meter:
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
        reports = self._reports()
        if not reports:
            return None
        # All choices of one prompt report the same prompt. One report for several choices is
        # from an engine that has added up by itself.
        share = min(self._n, len(reports))
        return Usage(
            prompt=sum(_count(r, "prompt_tokens") for r in reports) // share,
            completion=sum(_count(r, "completion_tokens") for r in reports),
            cached=sum(_cached(r) for r in reports) // share,
        )

    def document(self) -> dict[str, Any] | None:
        """`usage` of the answer; what an engine has told once is kept as it is."""
        reports, total = self._reports(), self.total()
        if total is None or len(reports) == 1:
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


def _report_of(timings: object) -> dict[str, Any] | None:
    """The usage report that llama-server's `timings` amount to."""
    if not isinstance(timings, dict):
        return None
    cached, completion = _count(timings, "cache_n"), _count(timings, "predicted_n")
    prompt = _count(timings, "prompt_n") + cached
    return {
        "completion_tokens": completion,
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _count(report: Mapping[str, Any], key: str) -> int:
    value = report.get(key)
    return value if isinstance(value, int) else 0


def _cached(report: Mapping[str, Any]) -> int:
    details = report.get("prompt_tokens_details")
    return _count(details, "cached_tokens") if isinstance(details, dict) else 0

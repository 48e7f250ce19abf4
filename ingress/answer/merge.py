"""Answers of several jobs as one answer with several choices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


class Merge:
    """Documents, or chunks, of `copies` jobs as those of one. Each job may have several choices (a
    list of prompts): those of one prompt stay together, as in OpenAI's answers."""

    def __init__(self, copies: int) -> None:
        self._copies = copies
        self._same: dict[str, Any] = {}
        self._usage: dict[int, dict[str, Any]] = {}
        self._rest: dict[int, bytes] = {}

    def document(self, documents: list[dict[str, Any]]) -> bytes:
        choices = []
        for job, document in enumerate(documents):
            choices += [self._placed(choice, job) for choice in document.get("choices") or ()]
            self._count(job, document.get("usage"))
        choices.sort(key=lambda choice: int(choice["index"]))
        merged = {**documents[0], "choices": choices}
        if usage := self._sum():
            merged["usage"] = usage
        return orjson.dumps(merged)

    def chunks(self, job: int, events: bytes) -> bytes:
        """The events that a client gets for those of one job; what counts tokens comes last. Of a
        long event, which comes in several pieces, it gets nothing before the last."""
        whole, end, rest = (self._rest.get(job, b"") + events).rpartition(b"\n\n")
        self._rest[job] = rest
        return b"".join(self._chunk(job, data) for data in _datas(whole + end))

    def end(self) -> bytes:
        usage = self._sum()
        if not usage:
            return DONE
        closing = {"choices": [], **self._same, "usage": usage}
        return b"data: %b\n\n" % orjson.dumps(closing) + DONE

    def _chunk(self, job: int, data: bytes) -> bytes:
        if data == b"[DONE]":
            return b""
        chunk = orjson.loads(data)
        if not isinstance(chunk, dict):
            return b""
        if not self._same:
            kept = ("id", "object", "created", "model", "system_fingerprint")
            self._same = {name: chunk[name] for name in kept if name in chunk}
        choices = chunk.get("choices")
        if not choices:
            self._count(job, chunk.get("usage"))
            return b""
        placed = [self._placed(choice, job) for choice in choices]
        return b"data: %b\n\n" % orjson.dumps({**chunk, **self._same, "choices": placed})

    def _placed(self, choice: dict[str, Any], job: int) -> dict[str, Any]:
        return {**choice, "index": int(choice.get("index", 0)) * self._copies + job}

    def _count(self, job: int, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage[job] = usage

    def _sum(self) -> dict[str, Any]:
        if not self._usage:
            return {}
        first = self._usage[min(self._usage)]
        prompt = int(first.get("prompt_tokens") or 0)
        completion = sum(int(each.get("completion_tokens") or 0) for each in self._usage.values())
        counts = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        return {**first, **counts}


def _datas(events: bytes) -> Iterator[bytes]:
    for line in events.split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].strip()

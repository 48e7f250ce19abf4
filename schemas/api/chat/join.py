"""Joins choices (`n`) that several jobs made to one answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.api.base import Document, Event

_SAME = ("id", "object", "created", "model", "system_fingerprint")
"""Fields that must be equal in all events of a stream."""


def same(event: Event, fields: Iterable[str]) -> Event:
    """Those of `fields` that have a value in this event; empty if its id is empty."""
    named = event.get("id", True)  # an event that has no id at all may be the first one
    return {name: event[name] for name in fields if event.get(name)} if named else {}


class Join:
    """See `schemas.api.base.Join`. A job whose request has a list of prompts has several choices.

    As in OpenAI's answers, the choices of one prompt stand together, the prompt's tokens count
    once, and the generated tokens are summed up.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._same: Event = {}
        self._usage: dict[int, dict[str, Any]] = {}

    def document(self, documents: list[Document]) -> Document:
        choices = []
        for job, document in enumerate(documents):
            choices += [self._placed(choice, job) for choice in document.get("choices") or ()]
            self._count(job, document.get("usage"))
        choices.sort(key=lambda choice: int(choice["index"]))
        joined = {**documents[0], "choices": choices}
        return {**joined, "usage": self._sum()} if self._usage else joined

    def event(self, job: int, event: Event) -> Event | None:
        """All events get the id of the very first one that has an id: Azure's first one, without
        choices, has an empty one. Usage is kept for `last`."""
        self._same = self._same or same(event, _SAME)
        self._count(job, event.get("usage"))
        choices = event.get("choices")
        if not choices:
            return None
        rest = {name: value for name, value in event.items() if name != "usage"}
        placed = [self._placed(choice, job) for choice in choices]
        return {**rest, **self._same, "choices": placed}

    def last(self) -> Event | None:
        return {"choices": [], **self._same, "usage": self._sum()} if self._usage else None

    def _placed(self, choice: dict[str, Any], job: int) -> dict[str, Any]:
        # The choices of prompt 0 come first (one for each job), then those of prompt 1.
        return {**choice, "index": int(choice.get("index") or 0) * self._jobs + job}

    def _count(self, job: int, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage[job] = usage

    def _sum(self) -> dict[str, Any]:
        first = self._usage[min(self._usage)]
        prompt = int(first.get("prompt_tokens") or 0)
        completion = sum(int(each.get("completion_tokens") or 0) for each in self._usage.values())
        counts = {"prompt_tokens": prompt, "completion_tokens": completion}
        return {**first, **counts, "total_tokens": prompt + completion}

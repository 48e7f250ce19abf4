"""The answer to a chat as it comes: its texts, who served it, its figures, or its error. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.console.pages.rows import seconds
from schemas.api import sse
from schemas.frames import NOTED

_QUEUED = re.compile(r"queued position=(\d+)(?: eta=(\d+)s)?")
MOST = 2_000_000
"""Characters of one answer that are kept: of its text, its thoughts and its tool calls."""
MOST_CALLS = 128
"""Tool calls of one answer that are kept."""


@dataclass(slots=True)
class Reply:
    """`sent`: seconds, by the clock that `feed` and `end` are told the time of. `notes`: headers
    and comments ``x-headrace-…``, without that beginning. `place`: what is told of the queue
    meanwhile. `calls`: tool calls, by their index: name and arguments. `pieces`: how often text
    came, for engines that tell no usage."""

    sent: float
    notes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    thoughts: str = ""
    place: str = ""
    finish: str = ""
    calls: dict[int, tuple[str, str]] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    first: float | None = None
    last: float | None = None
    pieces: int = 0
    cut: bool = False
    _size: int = 0
    _splitter: sse.Splitter = field(default_factory=sse.Splitter)

    def head(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self._note(name.lower(), value)

    def feed(self, chunk: bytes, now: float) -> None:
        """Raises sse.TooLong."""
        self._take(self._splitter.feed(chunk), now)

    def end(self, now: float) -> None:
        """The stream ended."""
        self._take(self._splitter.rest(), now)
        if not self._splitter.finished and not self.error:
            self.error = "The answer ended before it was whole."

    def _take(self, events: bytes, now: float) -> None:
        for event in sse.split(events):
            for line in event.split(b"\n"):
                if line.startswith(b":"):
                    self._comment(line[1:].strip().decode(errors="replace"))
            if (found := sse.object_of(event)) is not None:
                self._read(found, now)

    def _comment(self, said: str) -> None:
        name, _, value = said.partition(" ")
        self._note(name, value)
        if place := _QUEUED.match(said):
            eta = f", about {place[2]} s" if place[2] else ""
            self.place = f"waits at place {place[1]} of the queue{eta}"

    def _note(self, name: str, value: str) -> None:
        if name.startswith(NOTED):
            self.notes[name.removeprefix(NOTED)] = value

    def _read(self, event: Mapping[str, Any], now: float) -> None:
        if error := event.get("error"):
            self.error = told(error)
        if isinstance(event.get("usage"), Mapping):
            self.usage = event["usage"]
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and not choice.get("index"):
                self.finish = str(choice.get("finish_reason") or self.finish)
                if isinstance(delta := choice.get("delta"), Mapping):
                    self._grow(delta, now)

    def _grow(self, delta: Mapping[str, Any], now: float) -> None:
        text = _text(delta, "content") or _text(delta, "refusal")
        thoughts = _text(delta, "reasoning_content") or _text(delta, "reasoning")
        calls = delta.get("tool_calls")
        if not (text or thoughts or calls):
            return
        self.first = now if self.first is None else self.first
        self.last = now
        self.pieces += 1
        if self._has_room(len(text) + len(thoughts)):
            self.text += text
            self.thoughts += thoughts
        for call in calls if isinstance(calls, list) else ():
            self._call(call)

    def _call(self, call: Any) -> None:
        if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
            return
        index = call.get("index")
        index = index if isinstance(index, int) else len(self.calls)
        if index not in self.calls and len(self.calls) >= MOST_CALLS:
            self.cut = True
            return
        name, arguments = self.calls.get(index, ("", ""))
        begins = "" if name else _text(call["function"], "name")
        more = _text(call["function"], "arguments")
        if self._has_room(len(begins) + len(more)):
            self.calls[index] = (name or begins, arguments + more)

    def _has_room(self, more: int) -> bool:
        """Whether so many characters are kept, too. Once some are not, no later ones are."""
        self.cut = self.cut or self._size + more > MOST
        self._size += 0 if self.cut else more
        return not self.cut

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token."""
        return None if self.first is None else self.first - self.sent

    @property
    def rate(self) -> float | None:
        """Tokens/s behind the first one; None if there were too few to tell."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        told = self.usage.get("completion_tokens")
        tokens = told if isinstance(told, int) else self.pieces
        return (tokens - 1) / (self.last - self.first) if tokens > 1 else None

    def figures(self) -> list[tuple[str, str]]:
        """(what, figure), as far as it is known."""
        said: list[tuple[str, str]] = []
        if self.ttft is not None:
            said.append(("TTFT", seconds(self.ttft)))
        if self.rate is not None:
            said.append(("tokens/s", f"{self.rate:.1f}"))
        for title, name in (("prompt", "prompt_tokens"), ("answer", "completion_tokens")):
            if isinstance(self.usage.get(name), int):
                said.append((title, f"{self.usage[name]} tokens"))
        return said + served(self.notes) + ([("end", self.finish)] if self.finish else [])


_TITLES = {
    "served-by": "served by",
    "queue-wait": "queue",
    "cached-tokens": "prompt in cache",
    "cache": "kept answer",
    "cost": "cost",
    "warning": "warning",
    "tier": "tier",
}
_SILENT = ("cost", "cached-tokens")
"""Nothing is said of them where they are 0."""


def served(notes: Mapping[str, str]) -> list[tuple[str, str]]:
    """(what, figure) of headers of an answer, without ``x-headrace-``."""
    said = []
    for name, title in _TITLES.items():
        value = notes.get(name, "")
        if name == "queue-wait" and value:
            value = seconds(_number(value))
        elif name == "served-by":
            value = ", ".join(each.strip().removeprefix("node:") for each in value.split(","))
        elif name == "cached-tokens" and value:
            value = f"{value} tokens"
        if value and not (name in _SILENT and value.partition(" ")[0] == "0"):
            said.append((title, value))
    return said


def told(error: Any) -> str:
    """An error of OpenAI's form in words, with its code."""
    if not isinstance(error, Mapping):
        return str(error)
    said = str(error.get("message") or "The request failed.")
    code = error.get("code") or error.get("type")
    return f"{said} ({code})" if code else said


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

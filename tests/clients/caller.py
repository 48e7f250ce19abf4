"""A llama-server whose model calls the tools that it was told to call.

The small models that can be had here cannot be relied on for it. A turn is decided by the history
of the request: as many results of tools as it has, so many calls of the plan are done; behind the
last one comes a text that repeats the last result, which shows that it has gone all the way. The
events are llama-server's, in the words recorded in `tests/doubles/llamacpp/data`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.clients import dialects
from tests.clients.dialects import Dialect, Turn
from tests.doubles.base import instance
from tests.doubles.llamacpp.connection import Answer, Request
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.doubles.llamacpp.wire import PROMPT_TOKENS

MODEL = "calls-tools"
_CONTEXT = 200_000
_COUNT, _INPUT = "/count_tokens", "/input_tokens"
DOCUMENT = {"city": "word", "degrees": 1}
"""What is said where JSON is asked for and no schema given."""


@dataclass(slots=True)
class Plan:
    """`calls` are made one a turn, if the request has such a tool, and `text` is said at last."""

    calls: Sequence[dialects.Call] = ()
    text: str = "That is all."

    def turn(self, asked: dialects.Asked) -> Turn:
        done = len(asked.results)
        if done < len(self.calls) and self.calls[done].name in asked.tools:
            return Turn(call=self.calls[done])
        said = f"{self.text} The tool said: {asked.results[-1]}" if done else self.text
        return Turn(text=said)


@dataclass(frozen=True, slots=True)
class Heard:
    """One request for tokens: where, what, and what was said to it."""

    path: str
    body: Any
    turn: Turn


@dataclass(slots=True)
class Record:
    """What the next client is to see, and what it asked."""

    plan: Plan = field(default_factory=Plan)
    heard: list[Heard] = field(default_factory=list)


class Caller(LlamaCpp):
    """Each request is in the record, which says what is to be done."""

    def __init__(self, record: Record) -> None:
        super().__init__(Settings(slots=4, model=MODEL))
        caps = self.props["chat_template_caps"]
        self.props["chat_template_caps"] = {**caps, **dict.fromkeys(caps, True)}
        self.props["default_generation_settings"]["n_ctx"] = _CONTEXT
        self.record = record
        self._numbers = itertools.count(1)

    def told(self, request: Request) -> Answer | Sequence[bytes] | None:
        path = request.path.partition("?")[0]
        dialect = dialects.DIALECTS.get(path.removesuffix(_COUNT).removesuffix(_INPUT))
        body = orjson.loads(request.body) if dialect and request.body else {}
        if dialect is None or not body.get(dialect.needs):
            return super().told(request)
        if path.endswith((_COUNT, _INPUT)):
            return Answer(200, orjson.dumps({"input_tokens": PROMPT_TOKENS}))
        return self._say(dialect, path, body)

    def _say(self, dialect: Dialect, path: str, body: Any) -> Answer | list[bytes]:
        form = body.get("response_format")
        turn = self.record.plan.turn(dialect.read(body))
        if form and form["type"] != "text":
            turn = Turn(_formed(form))
        self.record.heard.append(Heard(path, body, turn))
        number = next(self._numbers)
        if body.get("stream"):
            return [*dialect.stream(turn, number)]
        return Answer(200, orjson.dumps(dialect.document(turn, number)))


def _formed(form: Any) -> str:
    """What fits a `response_format`."""
    schema = (form.get("json_schema") or {}).get("schema") or form.get("schema")
    return orjson.dumps(instance(schema) if schema else DOCUMENT).decode()

"""``POST /completion``: llama-server's own text completion. ``POST /infill``: the same for a text
between two others, which editors ask for.

Its answer has `content` and `tokens`, its request any form of a prompt; its streams end with an
event in which `stop` is true, one for each prompt, and without ``[DONE]``. The fields are those of
llama-server's README; they pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Required

from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.base import Api, Document, Event, Usage, number, texts_of
from schemas.api.completions import MOST_TEXTS
from schemas.api.schema_tree import place
from schemas.api.shape import Bias, Model, Request, Shape, Tokens, check_bias
from schemas.api.tools import check_inputs, check_stop


class Common(TypedDict, total=False):
    """What a text and one between two others are asked for with."""

    model: Model | None
    stream: bool | None
    n_predict: Tokens | None
    max_tokens: Tokens | None
    stop: str | list[str] | None
    logit_bias: Bias | None
    response_fields: list[str] | None


class OwnCompletionRequest(Common, total=False):
    prompt: Required[str | list[Any] | dict[str, Any]]


def _check_common(request: Request) -> None:
    check_bias(request.get("logit_bias"))
    check_stop(request)


def _check(request: Request) -> None:
    check_inputs(request["prompt"], "prompt", MOST_TEXTS)
    _check_common(request)


_BESIDE = "temperature top_p seed presence_penalty frequency_penalty n"
REQUEST = Shape(
    OwnCompletionRequest,
    _check,
    more=_BESIDE,
    prompts="prompt",
    mends=(plain.without_empty_stops, plain.token_ids("prompt")),
)


class Extra(TypedDict, total=False):
    """A further file, which the model sees before the one that is written in."""

    text: Required[str]
    filename: str | None


class InfillRequest(Common, total=False):
    """A text between `input_prefix` and `input_suffix`. `input_extra`: further files. `prompt`: how
    the text begins."""

    input_prefix: Required[str]
    input_suffix: Required[str]
    input_extra: list[Extra] | None
    prompt: str | None


INFILL = Shape(InfillRequest, _check_common, more=_BESIDE, mends=(plain.without_empty_stops,))


class OwnCompletion(Api):
    """See `schemas.api.base.Api`."""

    own = True
    prompt = "prompt"
    limits = ("n_predict", "max_tokens")
    at_limit: ClassVar[Mapping[str, str]] = {"content": "", "stop_type": "limit"}
    streamed = texts_of("content")
    written = streamed
    answer = re.compile(rb'"content"\s*:')

    def usage(self, found: Event | Document) -> Usage | None:
        if "tokens_predicted" not in found or not found.get("stop"):
            return super().usage(found)
        timings = found.get("timings")
        cached = number(timings, "cache_n") if isinstance(timings, dict) else 0
        read = number(found, "tokens_evaluated")
        return Usage(read, number(found, "tokens_predicted"), cached)

    def is_last(self, event: Event) -> bool:
        return event.get("stop") is True

    def collector(self) -> Collector:
        return Collector()


class Infill(OwnCompletion):
    prompt = "input_prefix"


API, INFILL_API = OwnCompletion(), Infill()


class Collector:
    """See `schemas.api.base.Collector`. Of several prompts the answers are a list."""

    def __init__(self) -> None:
        self._parts: dict[int, list[Event]] = {}
        self.ended: dict[int, Event] = {}

    @property
    def whole(self) -> bool:
        """Whether every answer that began has ended."""
        return bool(self.ended) and self.ended.keys() == self._parts.keys()

    @property
    def document(self) -> Any:
        """The answer; a list of them, if there are several; None before one has ended."""
        found = [self._joined(index) for index in sorted(self.ended)]
        return found[0] if len(found) == 1 else found or None

    def add(self, event: Event) -> None:
        if "content" not in event:
            raise KeyError("content")
        index = event.get("index", 0)
        self._parts.setdefault(index, []).append(event)
        if event.get("stop"):
            self.ended[index] = event

    def _joined(self, index: int) -> Document:
        parts, last = self._parts[index], self.ended[index]
        found = {**last, "content": "".join(part["content"] for part in parts)}
        for name in ("tokens", "completion_probabilities"):
            if any(name in part for part in parts):
                found[name] = [each for part in parts for each in part.get(name) or ()]
        return found


def chosen(document: Document, fields: list[str]) -> Document:
    """The fields that `response_fields` names, by their paths; those that are not there are left
    out."""
    found = {}
    for path in fields:
        with suppress(KeyError, IndexError, ValueError, TypeError):
            found[path] = place(document, path.split("/"))
    return found

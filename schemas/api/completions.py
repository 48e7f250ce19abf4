"""``POST /v1/completions``: the model continues a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.base import Event, Outline, texts_of
from schemas.api.chat.continuation import SAME
from schemas.api.chat.join import same
from schemas.api.chat.request import StreamOptions
from schemas.api.choices import ChoicesApi
from schemas.api.shape import (
    Bias,
    Choices,
    Model,
    Penalty,
    Request,
    Seed,
    Shape,
    Share,
    Temperature,
    Tokens,
    check_bias,
    invalid,
)
from schemas.api.tools import check_inputs, check_stop

MOST_TEXTS = 1024
"""Prompts in one request, times the choices of each. When a client with 10,000 prompts left,
llama-server took minutes to drop them, and answered nobody meanwhile (measured)."""


class CompletionRequest(TypedDict, total=False):
    model: Model | None
    prompt: Required[str | list[Any] | dict[str, Any]]
    stream: bool | None
    stream_options: StreamOptions | None
    max_tokens: Tokens | None
    temperature: Temperature | None
    top_p: Share | None
    n: Choices | None
    best_of: Choices | None
    seed: Seed | None
    stop: str | list[str] | None
    presence_penalty: Penalty | None
    frequency_penalty: Penalty | None
    logprobs: Annotated[int, Field(ge=0, le=20)] | Literal[False] | None
    logit_bias: Bias | None
    echo: bool | None
    suffix: str | None
    user: str | None


def _check(request: Request) -> None:
    best = request.get("best_of")
    choices = max(request.get("n") or 1, best or 1)
    check_inputs(request["prompt"], "prompt", MOST_TEXTS // choices)
    check_bias(request.get("logit_bias"))
    if best is not None and best < (request.get("n") or 1):
        raise invalid("best_of", "it must not be less than 'n'")
    check_stop(request)


def _one_logprob(request: Request) -> bool:
    """Put 1 for `logprobs: true`, as chats have it and llama-server takes it."""
    if request.get("logprobs") is not True:
        return False
    request["logprobs"] = 1
    return True


REQUEST = Shape(
    CompletionRequest,
    _check,
    prompts="prompt",
    mends=(
        plain.without_zero("best_of"),
        plain.without_empty_stops,
        plain.token_ids("prompt"),
        _one_logprob,
    ),
)


class Completions(ChoicesApi):
    """See `schemas.api.base.Api`."""

    prompt = "prompt"
    limits = ("max_tokens",)
    at_limit: ClassVar[Mapping[str, str]] = {"text": "", "finish_reason": "length"}
    usual_limit = 16  # from OpenAI's API reference
    streamed = texts_of("text")
    written = streamed

    def may_continue(self, request: Mapping[str, Any]) -> bool:
        alone = request.get("n") in (None, 1) and request.get("best_of") in (None, 1)
        more = any(request.get(name) for name in ("echo", "logprobs", "suffix"))
        return alone and not more and isinstance(request["prompt"], str)

    def continuation(self) -> Continuation:
        return Continuation()

    def with_beginning(self, request: Request, text: str) -> Request:
        return {**request, "prompt": request["prompt"] + text}


class Continuation:
    """See `schemas.api.base.Continuation`. Later parts get the id of the first part."""

    closed = False

    def closing(self, outline: Outline, tokens: int) -> list[Event]:
        return []

    thought, begins_anew = "", False

    def __init__(self) -> None:
        self._same: Event = {}

    def heard(self, event: Event) -> str | None:
        self._same = self._same or same(event, SAME)
        choices = event.get("choices") or ()
        ended = any(choice.get("finish_reason") or choice.get("index") for choice in choices)
        if ended or event.get("error"):
            return None
        return "".join(choice.get("text") or "" for choice in choices)

    def told(self, event: Event, text: str) -> list[Event]:
        return [event if event.get("error") else {**event, **self._same}]


API = Completions()

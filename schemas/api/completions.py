"""``POST /v1/completions``: the model continues a text."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.base import texts_of
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
    invalid,
)
from schemas.api.tools import check_inputs


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
    check_inputs(request["prompt"], "prompt")
    best = request.get("best_of")
    if best is not None and best < (request.get("n") or 1):
        raise invalid("best_of", "it must not be less than 'n'")


REQUEST = Shape(CompletionRequest, _check, prompts="prompt")


class Completions(ChoicesApi):
    """See `schemas.api.base.Api`."""

    prompt = "prompt"
    limits = ("max_tokens",)
    usual_limit = 16  # from OpenAI's API reference
    streamed = texts_of("text")
    written = streamed


API = Completions()

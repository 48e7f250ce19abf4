"""``POST /v1/completions``, ``/v1/embeddings`` and ``/v1/rerank``: texts in, without roles."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.chat.request import StreamOptions
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
    text_in,
)
from schemas.api.tools import check_inputs

MOST_INPUTS = 2048
"""Of one embeddings request, as OpenAI has it."""


class CompletionRequest(TypedDict, total=False):
    model: Model | None
    prompt: Required[str | list[Any]]
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


class EmbeddingsRequest(TypedDict, total=False):
    model: Model | None
    input: Required[str | list[Any]]
    encoding_format: Literal["float", "base64"] | None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None
    user: str | None


class RerankRequest(TypedDict, total=False):
    """As Jina's and Cohere's APIs have it; OpenAI has no such endpoint."""

    model: Model | None
    query: Required[str]
    documents: Required[Annotated[list[str | dict[str, Any]], Field(min_length=1)]]
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    return_documents: bool | None


def _check_completion(request: Request) -> None:
    if isinstance(request["prompt"], list):
        check_inputs(request["prompt"], "prompt")
    best = request.get("best_of")
    if best is not None and best < (request.get("n") or 1):
        raise invalid("best_of", "it must not be less than 'n'")


def _check_embeddings(request: Request) -> None:
    if isinstance(request["input"], list):
        check_inputs(request["input"], "input", MOST_INPUTS)


def _check_rerank(request: Request) -> None:
    for index, document in enumerate(request["documents"]):
        if isinstance(document, dict):
            text_in(document, "text", f"documents[{index}]")


COMPLETIONS = Shape(CompletionRequest, _check_completion)
EMBEDDINGS = Shape(EmbeddingsRequest, _check_embeddings)
RERANK = Shape(RerankRequest, _check_rerank)

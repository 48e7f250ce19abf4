"""``POST /v1/embeddings``: texts in, vectors out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.shape import Model, Request, Shape
from schemas.api.tools import check_inputs

MOST_INPUTS = 2048
"""OpenAI's limit for one request."""


class EmbeddingsRequest(TypedDict, total=False):
    model: Model | None
    input: Required[str | list[Any]]
    encoding_format: Literal["float", "base64"] | None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None
    user: str | None


def _check(request: Request) -> None:
    if isinstance(request["input"], list):
        check_inputs(request["input"], "input", MOST_INPUTS)


REQUEST = Shape(EmbeddingsRequest, _check)

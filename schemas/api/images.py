"""``POST /v1/images/generations``, and the text fields of ``/v1/images/edits``.

Which of the sizes a model can draw is for its engine to say.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Required

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from schemas.api.shape import Model, Request, Seed, Shape, invalid

MAX_PROMPT = 32_000
"""Characters, as OpenAI has it for its own image models."""
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _lower(found: Any) -> Any:
    return found.lower() if isinstance(found, str) else found


class ImageRequest(TypedDict, total=False):
    model: Annotated[Model, Field(min_length=1)] | None
    prompt: Required[Annotated[str, Field(max_length=MAX_PROMPT)]]
    n: Annotated[int, Field(ge=1, le=10)] | None
    size: str | None
    response_format: Literal["url", "b64_json"] | None
    output_format: Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_lower)] | None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None
    quality: Literal["auto", "standard", "hd", "low", "medium", "high"] | None
    style: Literal["vivid", "natural"] | None
    background: Literal["auto", "transparent", "opaque"] | None
    moderation: Literal["auto", "low"] | None
    input_fidelity: Literal["high", "low"] | None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None
    seed: Seed | None
    stream: bool | None
    user: str | None


def _check(request: Request) -> None:
    if not request["prompt"].strip():
        raise invalid("prompt", "it must not be empty")
    size = request.get("size")
    if size not in (None, "auto") and _SIZE.fullmatch(size) is None:
        raise invalid("size", "'auto' or WIDTHxHEIGHT is needed, like '512x512'")
    if request.get("stream") and request.get("response_format") == "url":
        raise invalid("response_format", "a stream carries 'b64_json' alone")


IMAGES = Shape(ImageRequest, _check)

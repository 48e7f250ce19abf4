"""``POST /v1/audio/speech``: text in, sound out. What voices there are, the engine says."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.shape import Model, Request, Shape, invalid

MAX_INPUT = 4096
"""Characters, as OpenAI has it."""


class SpeechRequest(TypedDict, total=False):
    """`voice`: a name, or the object that names one of the account's own."""

    model: Annotated[Model, Field(min_length=1)] | None
    input: Required[Annotated[str, Field(max_length=MAX_INPUT)]]
    voice: Required[Annotated[str, Field(min_length=1, max_length=256)] | dict[str, Any]]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None
    instructions: Annotated[str, Field(max_length=MAX_INPUT)] | None
    stream_format: Literal["audio", "sse"] | None


def _check(request: Request) -> None:
    if not request["input"].strip():
        raise invalid("input", "it must not be empty")


SPEECH = Shape(SpeechRequest, _check)

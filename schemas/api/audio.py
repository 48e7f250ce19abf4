"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``: the text fields of their forms.

Bounds that only some engines have (a language, say) are left to them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.shape import Model, Request, Shape, invalid

GRANULARITIES = "timestamp_granularities"


class TranscriptionRequest(TypedDict, total=False):
    model: Annotated[Model, Field(min_length=1)] | None
    language: str | None
    prompt: str | None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] | None
    temperature: Annotated[float, Field(ge=0, le=1)] | None
    timestamp_granularities: list[Literal["word", "segment"]] | None
    stream: bool | None


def _check(request: Request) -> None:
    """Segments are what there is without a word of it: some clients always ask for them."""
    wanted = request.get(GRANULARITIES) or ()
    if "word" in wanted and request.get("response_format") != "verbose_json":
        raise invalid(GRANULARITIES, "'word' needs response_format 'verbose_json'")


TRANSCRIPTIONS = Shape(TranscriptionRequest, _check)

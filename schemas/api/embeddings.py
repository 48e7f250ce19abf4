"""``POST /v1/embeddings``: texts in, vectors out. ``POST /embedding`` is llama-server's own form of
it, with another answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.shape import Model, Request, Shape, invalid, missing
from schemas.api.tools import check_inputs

MOST_INPUTS = 2048
"""OpenAI's limit for one request."""


class EmbeddingsRequest(TypedDict, total=False):
    """`content`: llama-server's own name for `input`."""

    model: Model | None
    input: str | list[Any] | dict[str, Any] | None
    content: str | list[Any] | dict[str, Any] | None
    encoding_format: Literal["float", "base64"] | None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None
    user: str | None


def _check(request: Request) -> None:
    given = [name for name in ("input", "content") if request.get(name) is not None]
    if not given:
        raise missing("input")
    if len(given) > 1:
        raise invalid("content", "it means the same as 'input': send one of them")
    check_inputs(request[given[0]], given[0], MOST_INPUTS)


def _texts_of_parts(request: Request) -> bool:
    """Put inputs that llama-server takes as parts, ``{"content": [{"type": "text", …}]}``, as the
    texts that they are."""
    found = request.get("input")
    made = list(map(_text_of, found)) if isinstance(found, list) else _text_of(found)
    if made == found:
        return False
    request["input"] = made
    return True


def _text_of(given: Any) -> Any:
    parts = given.get("content") if isinstance(given, dict) and len(given) == 1 else None
    if not parts or not isinstance(parts, list) or not all(map(_is_text, parts)):
        return given
    return "".join(part["text"] for part in parts)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and type(part.get("text")) is str


REQUEST = Shape(
    EmbeddingsRequest, _check, prompts="input", mends=(plain.token_ids("input"), _texts_of_parts)
)


def from_own(request: Request) -> Request:
    """A checked request in llama-server's own form as one of this endpoint, for every engine. Its
    vectors are always numbers (measured: it passes over `encoding_format`)."""
    own = ("content", "encoding_format")
    if request.keys().isdisjoint(own):
        return request
    given = request.get("input")
    kept = {name: value for name, value in request.items() if name not in own}
    return {**kept, "input": request.get("content") if given is None else given}


def as_own(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer in llama-server's own form. It has a list of vectors for each text, as a model
    without pooling has one for each token. Raises LookupError, TypeError for what is none."""
    return [{"index": each["index"], "embedding": [each["embedding"]]} for each in answer["data"]]

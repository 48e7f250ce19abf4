"""``POST /score``, ``/classify`` and ``/pooling``: what vLLM's models say that write nothing.

A score is how well two texts fit each other, a class one of those that the model was trained for,
and a pooled answer the model's numbers as they are. vLLM's own forms; OpenAI has no such endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.base import Api
from schemas.api.embeddings import MOST_INPUTS
from schemas.api.shape import Model, Request, Shape, invalid, missing
from schemas.api.tools import check_inputs

PAIRS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)
"""The names of both sides of a score: each of vLLM's forms."""
_Texts = str | Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
_COMMON = (
    "user truncate_prompt_tokens truncation_side padding request_id priority mm_processor_kwargs"
    " cache_salt use_activation"
)
_CHAT = (
    " add_special_tokens add_generation_prompt continue_final_message chat_template"
    " chat_template_kwargs media_io_kwargs"
)


class ScoreRequest(TypedDict, total=False):
    model: Model | None
    queries: _Texts | None
    documents: _Texts | None
    items: _Texts | None
    data_1: _Texts | None
    data_2: _Texts | None
    text_1: _Texts | None
    text_2: _Texts | None


class ClassifyRequest(TypedDict, total=False):
    """One of `input` and `messages` is needed; the latter are one chat."""

    model: Model | None
    input: str | list[Any] | None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None


class PoolingRequest(ClassifyRequest, total=False):
    task: str | None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None
    encoding_format: Literal["float", "base64"] | None


def _check_score(request: Request) -> None:
    """Both sides of one form, with as many texts, or one for all."""
    given = {name for pair in PAIRS for name in pair if request.get(name) is not None}
    if not given:
        raise missing("text_1")
    first, second = next((pair for pair in PAIRS if given >= {*pair}), ("", ""))
    if not first:
        one = min(given)
        raise missing(next(b if a == one else a for a, b in PAIRS if one in (a, b)))
    if more := sorted(given - {first, second}):
        raise invalid(more[0], f"{first!r} and {second!r} are there, too: send one pair of them")
    left, right = (_count(request[name]) for name in (first, second))
    if left not in (1, right):
        raise invalid(first, f"it has {left} texts, and {second!r} {right}: one, or as many")


def _count(texts: str | list[str]) -> int:
    return 1 if isinstance(texts, str) else len(texts)


def _check_input(request: Request) -> None:
    given = [name for name in ("input", "messages") if request.get(name) is not None]
    if not given:
        raise missing("input")
    if len(given) > 1:
        raise invalid("messages", "'input' is there, too: send one of them")
    if given == ["input"]:
        check_inputs(request["input"], "input", MOST_INPUTS)
        if isinstance(request["input"], list) and dict in map(type, request["input"]):
            raise invalid("input", "texts or token ids are needed; a chat belongs in 'messages'")


SCORE = Shape(ScoreRequest, _check_score, more=_COMMON)
CLASSIFY = Shape(
    ClassifyRequest,
    _check_input,
    more=_COMMON + _CHAT,
    items="messages",
    mends=(plain.token_ids("input"),),
)
POOLING = Shape(
    PoolingRequest,
    _check_input,
    more=f"{_COMMON}{_CHAT} embed_dtype endianness",
    items="messages",
    mends=(plain.token_ids("input"),),
)


class _Score(Api):
    prompt = "text_1"


SCORE_API = _Score()

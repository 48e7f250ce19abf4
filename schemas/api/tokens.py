"""``POST /tokenize``, ``/detokenize``: texts as the ids of their tokens, and back.

llama-server and vLLM have both, each in a form of its own: `content` and `prompt` or `messages`.
Here each engine takes both forms, and an answer has the fields of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.base import Api, Document
from schemas.api.shape import Model, Request, Shape, invalid, missing

_TEXTS = ("content", "prompt", "messages")
_MOST = 2**20
"""Tokens to be put together."""


class TokenizeRequest(TypedDict, total=False):
    """`content`, `add_special`, `parse_special`, `with_pieces`: llama-server's. The rest is
    vLLM's."""

    model: Model | None
    content: str | list[str | int] | None
    add_special: bool | None
    parse_special: bool | None
    with_pieces: bool | None
    prompt: str | None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None
    add_special_tokens: bool | None
    return_token_strs: bool | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None


class DetokenizeRequest(TypedDict, total=False):
    model: Model | None
    tokens: Required[
        Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(max_length=_MOST)]
    ]


def _check(request: Request) -> None:
    given = [name for name in _TEXTS if request.get(name) is not None]
    if not given:
        raise missing("content")
    if len(given) > 1:
        raise invalid(given[1], f"{given[0]!r} is there, too: send one of them")


TOKENIZE = Shape(
    TokenizeRequest,
    _check,
    more="tools chat_template chat_template_kwargs mm_processor_kwargs",
    items="messages",
    mends=(plain.token_ids("content"),),
)
DETOKENIZE = Shape(DetokenizeRequest, mends=(plain.token_ids("tokens"),))


class _Tokenize(Api):
    prompt = "messages"


class _Detokenize(Api):
    prompt = "tokens"


TOKENIZE_API = _Tokenize()
DETOKENIZE_API = _Detokenize()


def in_both_forms(
    request: Mapping[str, Any], tokens: list[int], pieces: list[Any], longest: int
) -> Document:
    """The answer of an engine that has tokenized a text. `pieces`: their texts, if they were asked
    for. `longest`: how many its context holds."""
    found: Document = {"tokens": tokens, "count": len(tokens), "max_model_len": longest}
    if request.get("with_pieces"):
        pairs = zip(tokens, pieces, strict=True)
        found["tokens"] = [{"id": token, "piece": piece} for token, piece in pairs]
    if request.get("return_token_strs"):
        found["token_strs"] = pieces
    return found


def wants_pieces(request: Mapping[str, Any]) -> bool:
    return bool(request.get("with_pieces") or request.get("return_token_strs"))


def text_document(text: str) -> Document:
    """The answer of an engine that has put tokens together."""
    return {"content": text, "prompt": text}

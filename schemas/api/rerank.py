"""``POST /v1/rerank``: documents in, their order out.

The fields are those of Jina's and Cohere's APIs; OpenAI has no such endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.base import Api
from schemas.api.shape import Model, Request, Shape, text_in

_MOST = 2048
"""Documents in one request: as many as there may be texts in one request for embeddings."""


class RerankRequest(TypedDict, total=False):
    model: Model | None
    query: Required[str]
    documents: Required[
        Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=_MOST)]
    ]
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    return_documents: bool | None


def _check(request: Request) -> None:
    for index, document in enumerate(request["documents"]):
        if isinstance(document, dict):
            text_in(document, "text", f"documents[{index}]")


REQUEST = Shape(
    RerankRequest,
    _check,
    more="max_chunks_per_doc max_tokens_per_doc priority rank_fields return_embeddings truncation",
)


class Rerank(Api):
    prompt = "documents"


API = Rerank()


def as_texts(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to change for an engine that takes only texts: Cohere allows documents that are
    objects with a `text`."""
    documents = request.get("documents") or ()
    if not any(isinstance(each, dict) for each in documents):
        return {}
    return {"documents": [e.get("text") if isinstance(e, dict) else e for e in documents]}

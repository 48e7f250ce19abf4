"""``POST /v1/rerank``: documents in, their order out.

The fields are those of Jina's and Cohere's APIs; OpenAI has no such endpoint. TEI (Hugging Face's
text-embeddings-inference) has a form of its own: `texts`, and a bare list as the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.base import Api
from schemas.api.shape import Model, Request, Shape, invalid, missing, text_in

_TEI = ("texts", "return_text", "raw_scores", "truncate", "truncation_direction")
_MOST = 2048
"""Documents in one request: as many as there may be texts in one request for embeddings."""


class RerankRequest(TypedDict, total=False):
    model: Model | None
    query: Required[str]
    documents: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=_MOST)] | None
    texts: Annotated[list[str], Field(min_length=1, max_length=_MOST)] | None
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    return_documents: bool | None
    return_text: bool | None


def _check(request: Request) -> None:
    if request.get("documents") is None:
        if request.get("texts") is None:
            raise missing("documents")
        return
    if request.get("texts") is not None:
        raise invalid("texts", "it means the same as 'documents': send one of them")
    for index, document in enumerate(request["documents"]):
        if isinstance(document, dict):
            text_in(document, "text", f"documents[{index}]")


REQUEST = Shape(
    RerankRequest,
    _check,
    more="max_chunks_per_doc max_tokens_per_doc priority rank_fields return_embeddings truncation"
    " raw_scores truncate truncation_direction",
)


class Rerank(Api):
    prompt = "documents"


API = Rerank()


def is_tei(request: Mapping[str, Any]) -> bool:
    return "texts" in request


def from_tei(request: Mapping[str, Any]) -> Request:
    """A request in TEI's form as one of this endpoint. Scores come as the engine gives them, and
    too long a text is cut or refused as the engine does it."""
    kept = {name: value for name, value in request.items() if name not in _TEI}
    return {**kept, "documents": request["texts"]}


def as_tei(request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer to a request in TEI's form. Raises LookupError, TypeError for what is none."""
    found = [
        {"index": each["index"], "score": each["relevance_score"]} for each in answer["results"]
    ]
    if request.get("return_text"):
        for each in found:
            each["text"] = request["texts"][each["index"]]
    return sorted(found, key=lambda each: each["score"], reverse=True)


def as_texts(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to change for an engine that takes only texts: Cohere allows documents that are
    objects with a `text`."""
    documents = request.get("documents") or ()
    if not any(isinstance(each, dict) for each in documents):
        return {}
    return {"documents": [e.get("text") if isinstance(e, dict) else e for e in documents]}

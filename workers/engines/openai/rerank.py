"""Documents to rank, as engines take them that know texts alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(request: Mapping[str, Any]) -> dict[str, Any]:
    """What to change of a request whose documents are objects with a text, as Cohere has them."""
    documents = request.get("documents") or ()
    if not any(isinstance(each, dict) for each in documents):
        return {}
    return {"documents": [_text(each) for each in documents]}


def _text(document: Any) -> Any:
    return document.get("text") if isinstance(document, dict) else document

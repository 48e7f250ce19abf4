"""Writes the engine's name for the model into requests that are forms."""

from __future__ import annotations

from schemas import multipart
from schemas.multipart import FormError
from workers.engines.openai.refusal import Refusal


def name_form(body: bytes, content_type: str, name: str) -> tuple[bytes, str]:
    """(body, content type) of the form with `name` as its field `model`. Raises Refusal."""
    try:
        parts = multipart.parse(body, content_type)
    except FormError as fault:
        raise Refusal(str(fault), param=fault.param) from None
    # A form that is right already is not written anew: it may hold a large recording.
    if [part.content for part in parts if part.name == "model"] == [name.encode()]:
        return body, content_type
    return multipart.put(parts, "model", name)

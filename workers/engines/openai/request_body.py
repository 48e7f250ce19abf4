"""Reads the bodies of requests, and writes the engine's name for the model into forms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from schemas import multipart
from schemas.api.piecewise import LARGE
from schemas.multipart import FormError, Part
from workers.engines.openai import parsed
from workers.engines.openai.refusal import Refusal

T = TypeVar("T")


def json_object(body: bytes) -> dict[str, Any]:
    """Raises Refusal for anything else."""
    try:
        found = parsed.load(body)
    except orjson.JSONDecodeError as fault:
        raise Refusal(f"The body is not valid JSON: {fault}.") from None
    if not isinstance(found, dict):
        raise Refusal("The body must be a JSON object.")
    return found


async def aside(body: bytes, work: Callable[[], T]) -> T:
    """What `work` on a form gives or raises: on a large one in a thread, where it leaves others
    their turns."""
    return work() if len(body) <= LARGE else await asyncio.to_thread(work)


def form_parts(body: bytes, content_type: str) -> list[Part]:
    """Raises Refusal for a body that is no form."""
    try:
        return multipart.parse(body, content_type)
    except FormError as fault:
        raise Refusal(str(fault), param=fault.param) from None


def name_form(body: bytes, content_type: str, name: str) -> tuple[bytes, str]:
    """(body, content type) of the form with `name` as its field `model`. Raises Refusal."""
    parts = form_parts(body, content_type)
    # A form that is right already is not written anew: it may hold a large recording.
    if [part.content for part in parts if part.name == "model"] == [name.encode()]:
        return body, content_type
    return multipart.put(parts, "model", name)

"""Removes a value that asks for nothing, but on which llama-server fails. Pure.

Measured on b11549: `top_logprobs` 0 without `logprobs` gives a 400. What asks for nothing at any
engine never comes here (`schemas.api.plain`).
"""

from __future__ import annotations

from typing import Any

import orjson

SIGN = b'"top_logprobs"'
"""Each request with such a value contains this."""


def without(body: bytes) -> bytes:
    """The body without such a value; unchanged if there is none."""
    request: dict[str, Any] = orjson.loads(body)
    if request.get("top_logprobs") != 0 or request.get("logprobs"):
        return body
    del request["top_logprobs"]
    return orjson.dumps(request)

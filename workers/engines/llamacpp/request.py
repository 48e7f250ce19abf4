"""Removes values that ask for nothing, but on which llama-server fails. Pure.

Measured on b11549: `top_logprobs` 0 without `logprobs`, and null as `reasoning_format`, each give a
400; null as any other of its own fields is as absent. What asks for nothing at any engine never
comes here (`schemas.api.plain`).
"""

from __future__ import annotations

from typing import Any

from workers.engines.openai import parsed

_PROBABLE, _FORMAT = "top_logprobs", "reasoning_format"
SIGNS = tuple(b'"%b"' % name.encode() for name in (_PROBABLE, _FORMAT))
"""Each request with such a value contains one of these."""


def without(body: bytes) -> bytes:
    """The body without such values; unchanged if there is none."""
    request: dict[str, Any] = parsed.load(body)
    empty = [_FORMAT] if request.get(_FORMAT, "") is None else []
    if request.get(_PROBABLE) == 0 and not request.get("logprobs"):
        empty.append(_PROBABLE)
    for name in empty:
        del request[name]
    return parsed.write(request, body) if empty else body

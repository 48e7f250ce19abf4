"""What llama-server says when it cannot do a request, in words that help. Pure.

Measured on b11549: it answers 500 to many faults of requests, and never names a field.
"""

from __future__ import annotations

import re

from schemas.api import endpoints
from workers.engines.openai.refusal import Refusal

_OF_THE_REQUEST = (
    "image input is not supported",
    "audio input is not supported",
    "is too large to process",
    "is required",
    "Failed to parse messages",
    "Failed to parse tools",
    "Failed to parse tool call arguments",
    "Unknown reasoning format",
    "[json.exception.",
    "vector::",
    "cannot make GET request",
)
"""Messages of faults of the request that the server reports as 500."""
_UNREADABLE = "Failed to load image or audio file"
"""Of a WebP, too, though it may be whole."""
_NO_TOKENS = "Prompt contains invalid tokens"
_BLAMED = re.compile("Failed to parse (messages|tools|tool call arguments)")


def status_of(status: int, message: str) -> int:
    """The status that it should have had."""
    mistaken = status == 500 and any(text in message for text in _OF_THE_REQUEST)
    return 400 if mistaken else status


def explain(endpoint: str, refusal: Refusal) -> None:
    """Names the field, where one is to blame."""
    said_in = endpoints.BY_PATH[endpoint].api.prompt
    if "is too large to process" in refusal.message:
        refusal.code = "context_length_exceeded"
    if refusal.message == _UNREADABLE:
        refusal.message = f"{_UNREADABLE}: of pictures PNG, JPEG, GIF and BMP can be read."
        refusal.param = said_in
    if refusal.code == "context_length_exceeded" or refusal.message == _NO_TOKENS:
        refusal.param = said_in
    elif (found := _BLAMED.match(refusal.message)) and not refusal.param:
        refusal.param = "tools" if found[1] == "tools" else said_in

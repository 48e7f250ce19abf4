"""Makes llama-server's refusals helpful: the right status, and the field at fault. Pure.

Measured on b11549: it answers 500 to many faulty requests, and never names a field.
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
    "Cannot use both",
)
"""Messages that the server sends with a 500 although the request is at fault."""
_TOO_LONG = "exceed_context_size_error"
"""The server's `type` of such an error."""
_UNREADABLE = "Failed to load image or audio file"
"""The server says so of every WebP, too, even an undamaged one."""
_NAMED = re.compile(
    r"Field '(\w+)'|Failed to parse (tools)|\b(grammar|reasoning_format|continue_final_message)\b"
)
"""Finds the fields that its messages name, in their own ways."""
BAD_SCHEMA = "JSON schema error"
_FORMATS = {
    endpoints.CHAT.path: "response_format",
    endpoints.RESPONSES.path: "text.format",
    endpoints.MESSAGES.path: "tools",  # a format is put as a chat's
}


def status_of(status: int, message: str) -> int:
    """The status that the server should have sent."""
    mistaken = status == 500 and any(text in message for text in _OF_THE_REQUEST)
    return 400 if mistaken else status


def explain(endpoint: str, refusal: Refusal) -> None:
    """Name the field at fault: what the ingress has let through is most often the prompt's."""
    said_in = endpoints.BY_PATH[endpoint].api.prompt
    if "is too large to process" in refusal.message:
        refusal.code = "context_length_exceeded"
    if refusal.code == "context_length_exceeded":
        refusal.kind = _TOO_LONG  # beside OpenAI's code: clients look at either
        refusal.param = said_in
    if refusal.message == _UNREADABLE:
        refusal.message = f"{_UNREADABLE}: of pictures PNG, JPEG, GIF and BMP can be read."
    if refusal.param is None and BAD_SCHEMA in refusal.message:
        refusal.param = _FORMATS.get(endpoint, "tools")
    elif refusal.param is None:
        named = _NAMED.search(refusal.message.replace("reasoning format", "reasoning_format"))
        refusal.param = named[named.lastindex or 0] if named else said_in

"""Requests of OpenAI's API (and of Anthropic's messages) as the edge checks them.

Only what the fabric acts on, or what engines are known to get wrong, is typed; all other fields
pass untouched. Each endpoint has a `Shape`, whose `read` turns a body into a dict or raises.
Types and bounds: OpenAI's and Anthropic's API references. Engines differ in what they do with a bad
value (a 500, a silent default), so the edge refuses it once for all.
"""

from schemas.api.audio import TRANSCRIPTIONS
from schemas.api.chat.request import CHAT
from schemas.api.images import IMAGES
from schemas.api.messages.request import COUNT_TOKENS, MESSAGES
from schemas.api.names import NAMES
from schemas.api.responses.request import RESPONSES
from schemas.api.shape import Shape
from schemas.api.speech import SPEECH
from schemas.api.texts import COMPLETIONS, EMBEDDINGS, RERANK

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "COUNT_TOKENS",
    "EMBEDDINGS",
    "IMAGES",
    "MESSAGES",
    "NAMES",
    "RERANK",
    "RESPONSES",
    "SPEECH",
    "TRANSCRIPTIONS",
    "Shape",
]

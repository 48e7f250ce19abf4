"""Requests of OpenAI's API (and of Anthropic's messages) as the edge checks them.

Only what the fabric acts on, or what engines are known to get wrong, is typed; all other fields
pass untouched. Each endpoint has a `Shape`, whose `read` turns a body into a dict or raises.
Types and bounds: OpenAI's and Anthropic's API references. Engines differ in what they do with a bad
value (a 500, a silent default), so the edge refuses it once for all.
"""

from schemas.openai.audio import TRANSCRIPTIONS
from schemas.openai.chat import CHAT
from schemas.openai.images import IMAGES
from schemas.openai.messages import COUNT_TOKENS, MESSAGES
from schemas.openai.names import NAMES
from schemas.openai.responses import RESPONSES
from schemas.openai.shape import Shape
from schemas.openai.speech import SPEECH
from schemas.openai.texts import COMPLETIONS, EMBEDDINGS, RERANK

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

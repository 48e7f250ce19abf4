"""The names of all fields that an endpoint has in OpenAI's API reference (Anthropic's for messages,
Jina's and Cohere's for rerank), also of those that nobody here acts on. By the endpoint's word on
an engine's card."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.api.audio import TRANSCRIPTIONS
from schemas.api.chat.request import CHAT
from schemas.api.images import IMAGES
from schemas.api.messages.request import COUNT_TOKENS, MESSAGES
from schemas.api.responses.request import RESPONSES
from schemas.api.shape import Shape
from schemas.api.speech import SPEECH
from schemas.api.texts import COMPLETIONS, EMBEDDINGS, RERANK


def _all(shape: Shape, more: str = "") -> frozenset[str]:
    return shape.fields | frozenset(more.split())


_ANYWHERE = "metadata prompt_cache_key prompt_cache_retention safety_identifier service_tier store"
_CLAUDE = (
    "cache_control container context_management inference_geo mcp_servers output_config"
    " output_format service_tier speed"
)
_RESPONSES = _all(
    RESPONSES,
    f"{_ANYWHERE} context_management conversation max_tool_calls prompt stream_options verbosity",
)
NAMES: Mapping[str, frozenset[str]] = {
    "chat": _all(
        CHAT,
        f"{_ANYWHERE} audio function_call functions prediction reasoning_effort verbosity"
        " web_search_options",
    ),
    "completions": _all(COMPLETIONS),
    "embeddings": _all(EMBEDDINGS),
    "responses": _RESPONSES,
    "input_tokens": _RESPONSES,
    "messages": _all(MESSAGES, _CLAUDE),
    "count_tokens": _all(COUNT_TOKENS, _CLAUDE),
    "rerank": _all(
        RERANK,
        "max_chunks_per_doc max_tokens_per_doc priority rank_fields return_embeddings truncation",
    ),
    "transcriptions": _all(
        TRANSCRIPTIONS, "chunking_strategy include known_speaker_names known_speaker_references"
    ),
    "translations": _all(TRANSCRIPTIONS),
    "speech": _all(SPEECH, "stream"),
    "images": _all(IMAGES),
    "edits": _all(IMAGES),
}

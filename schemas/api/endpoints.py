"""The one table of endpoints: routes, words on cards, features and names of fields come from it.

To add an endpoint, write a module beside this one with its `Shape`, add a line here, and write the
tests. The module also needs an `Api` if the answers are more than a document that is passed on.
Workers find out whether an engine has the endpoint (``workers/engines/openai``), or the engine's
own module says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from schemas.api import (
    completions,
    embeddings,
    media,
    moderations,
    own_completion,
    pooling,
    rerank,
    tokens,
    whole,
)
from schemas.api.base import PLAIN, Api
from schemas.api.chat import request as chat
from schemas.api.chat.answer import API as CHAT_API
from schemas.api.messages import request as messages
from schemas.api.messages.answer import API as MESSAGES_API
from schemas.api.responses import request as responses
from schemas.api.responses.answer import API as RESPONSES_API
from schemas.api.shape import Shape
from schemas.api.whole import Holds

VERSION = "/v1"
OLLAMA = "/api"
"""Where Ollama's own paths begin (`ingress.endpoints.ollama`)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path`: the same for clients and engines. `word`: the endpoint's name on engines' cards.
    `shape`: what a request must look like. `api`: reads and writes the answers. `holds`: what a
    whole answer must hold; None if it is no JSON. `stream`: the field that asks for a stream; "" if
    the endpoint has no streams. `choices`: requests may have `n`, which the fabric handles itself.
    `form`: the body is a form and not JSON. `means`: fields that the path implies, named as on
    cards. `sole_model`: a request that names no model goes to the only model with this endpoint; at
    other endpoints it goes to the default or first model. `steady`: the same request gets the same
    answer again, unless it asks for chance."""

    path: str
    word: str
    shape: Shape
    api: Api = PLAIN
    _: KW_ONLY
    holds: Holds | None = None
    stream: str = "stream"
    choices: bool = False
    form: media.Form | None = None
    means: Mapping[str, Any] = field(default_factory=dict)
    sole_model: bool = False
    steady: bool = False


CHAT = Endpoint(
    "/v1/chat/completions", "chat", chat.REQUEST, CHAT_API, holds=whole.CHAT, choices=True
)
CHAT_TOKENS = Endpoint(
    "/v1/chat/completions/input_tokens",
    "chat_tokens",
    chat.REQUEST,
    CHAT_API,
    holds=whole.TOKENS,
    stream="",
)
"""llama-server's own: it counts the tokens of a chat's prompt."""
COMPLETIONS = Endpoint(
    "/v1/completions",
    "completions",
    completions.REQUEST,
    completions.API,
    holds=whole.COMPLETION,
    choices=True,
)
EMBEDDINGS = Endpoint(
    "/v1/embeddings",
    "embeddings",
    embeddings.REQUEST,
    holds=whole.EMBEDDINGS,
    stream="",
    steady=True,
)
RESPONSES = Endpoint(
    "/v1/responses", "responses", responses.REQUEST, RESPONSES_API, holds=whole.RESPONSE
)
INPUT_TOKENS = Endpoint(
    "/v1/responses/input_tokens",
    "input_tokens",
    responses.REQUEST,
    RESPONSES_API,
    holds=whole.TOKENS,
    stream="",
)
MESSAGES = Endpoint("/v1/messages", "messages", messages.REQUEST, MESSAGES_API, holds=whole.MESSAGE)
COUNT_TOKENS = Endpoint(
    "/v1/messages/count_tokens",
    "count_tokens",
    messages.COUNT_REQUEST,
    MESSAGES_API,
    holds=whole.TOKENS,
    stream="",
)
RERANK = Endpoint(
    "/v1/rerank",
    "rerank",
    rerank.REQUEST,
    rerank.API,
    holds=whole.RANKS,
    stream="",
    steady=True,
)
MODERATIONS = Endpoint(
    "/v1/moderations",
    "moderations",
    moderations.REQUEST,
    holds=whole.JUDGEMENTS,
    stream="",
    steady=True,
)
TRANSCRIPTIONS = Endpoint(
    "/v1/audio/transcriptions",
    "transcriptions",
    media.TRANSCRIPTION,
    media.API,
    holds=whole.TRANSCRIPT,
    form=media.SOUND,
    sole_model=True,
    steady=True,
)
TRANSLATIONS = Endpoint(
    "/v1/audio/translations",
    "translations",
    media.TRANSLATION,
    media.API,
    holds=whole.TRANSCRIPT,
    form=media.SOUND,
    means={"translate": True},
    sole_model=True,
    steady=True,
)
SPEECH = Endpoint(
    "/v1/audio/speech", "speech", media.SPEECH, media.API, stream="stream_format", sole_model=True
)
IMAGES = Endpoint(
    "/v1/images/generations",
    "images",
    media.IMAGE,
    media.API,
    holds=whole.PICTURES,
    sole_model=True,
)
EDITS = Endpoint(
    "/v1/images/edits",
    "edits",
    media.IMAGE,
    media.API,
    holds=whole.PICTURES,
    form=media.PICTURES,
    sole_model=True,
)

TOKENIZE = Endpoint(
    "/tokenize",
    "tokenize",
    tokens.TOKENIZE,
    tokens.TOKENIZE_API,
    holds=whole.TOKEN_IDS,
    stream="",
)
"""This and the next are llama-server's and vLLM's own; those behind them are llama-server's."""
DETOKENIZE = Endpoint(
    "/detokenize",
    "detokenize",
    tokens.DETOKENIZE,
    tokens.DETOKENIZE_API,
    holds=whole.TEXT_OF_TOKENS,
    stream="",
)
TEMPLATE = Endpoint(
    "/apply-template",
    "apply_template",
    chat.REQUEST,
    CHAT_API,
    holds=whole.TEMPLATED,
    stream="",
)
OWN_COMPLETION = Endpoint(
    "/completion",
    "own_completion",
    own_completion.REQUEST,
    own_completion.API,
    holds=whole.WRITTEN,
)
INFILL = Endpoint(
    "/infill",
    "infill",
    own_completion.INFILL,
    own_completion.INFILL_API,
    holds=whole.WRITTEN,
    sole_model=True,
)
"""llama-server's own, too: it has it if the model knows tokens for a text between two others."""

SCORE = Endpoint(
    "/score",
    "score",
    pooling.SCORE,
    pooling.SCORE_API,
    holds=whole.SCORES,
    stream="",
    steady=True,
)
"""This and the next two are vLLM's own."""
CLASSIFY = Endpoint(
    "/classify", "classify", pooling.CLASSIFY, holds=whole.CLASSES, stream="", steady=True
)
POOLING = Endpoint(
    "/pooling", "pooling", pooling.POOLING, holds=whole.POOLED, stream="", steady=True
)

ENDPOINTS = tuple(each for each in globals().values() if isinstance(each, Endpoint))
"""All of the above, in their order."""
BY_PATH: Mapping[str, Endpoint] = {each.path: each for each in ENDPOINTS}
BY_WORD: Mapping[str, Endpoint] = {each.word: each for each in ENDPOINTS}
WORDS: Mapping[str, str] = {each.path: each.word for each in ENDPOINTS}
"""By path."""
APIS: Mapping[str, Api] = {each.path: each.api for each in ENDPOINTS}
"""By path."""

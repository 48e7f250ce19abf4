"""The one table of endpoints: routes, words on cards, features and names of fields come from it.

To add one: a module beside this with its `Shape` (and its `Api`, if its answers are more than a
document that is passed on), a line here, and the tests. Engines find out by themselves whether they
have it (``workers/engines/openai``), or say so in their own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.api import completions, embeddings, media, rerank
from schemas.api.base import PLAIN, Api
from schemas.api.chat import request as chat
from schemas.api.chat.answer import API as CHAT_API
from schemas.api.messages import request as messages
from schemas.api.messages.answer import API as MESSAGES_API
from schemas.api.responses import request as responses
from schemas.api.responses.answer import API as RESPONSES_API
from schemas.api.shape import Shape

VERSION = "/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`path`: as clients call it, and engines. `word`: its name on engines' cards. `shape`: what a
    request must be. `api`: who knows its answers. `streams`: an answer may be a stream. `choices`:
    it has `n`, which the fabric sees to. `form`: its body is a form, not JSON. `means`: what is
    asked for by the path alone, in the words that cards have for it."""

    path: str
    word: str
    shape: Shape
    api: Api = PLAIN
    streams: bool = True
    choices: bool = False
    form: bool = False
    means: Mapping[str, Any] = field(default_factory=dict)


CHAT = Endpoint(
    path="/v1/chat/completions", word="chat", shape=chat.REQUEST, api=CHAT_API, choices=True
)
COMPLETIONS = Endpoint(
    path="/v1/completions",
    word="completions",
    shape=completions.REQUEST,
    api=completions.API,
    choices=True,
)
EMBEDDINGS = Endpoint(
    path="/v1/embeddings", word="embeddings", shape=embeddings.REQUEST, streams=False
)
RESPONSES = Endpoint(
    path="/v1/responses", word="responses", shape=responses.REQUEST, api=RESPONSES_API
)
INPUT_TOKENS = Endpoint(
    path="/v1/responses/input_tokens",
    word="input_tokens",
    shape=responses.REQUEST,
    api=RESPONSES_API,
    streams=False,
)
MESSAGES = Endpoint(path="/v1/messages", word="messages", shape=messages.REQUEST, api=MESSAGES_API)
COUNT_TOKENS = Endpoint(
    path="/v1/messages/count_tokens",
    word="count_tokens",
    shape=messages.COUNT_REQUEST,
    streams=False,
    api=MESSAGES_API,
)
RERANK = Endpoint(
    path="/v1/rerank", word="rerank", shape=rerank.REQUEST, api=rerank.API, streams=False
)
TRANSCRIPTIONS = Endpoint(
    path="/v1/audio/transcriptions",
    word="transcriptions",
    shape=media.TRANSCRIPTION,
    api=media.API,
    form=True,
)
TRANSLATIONS = Endpoint(
    path="/v1/audio/translations",
    word="translations",
    shape=media.TRANSLATION,
    api=media.API,
    form=True,
    means={"translate": True},
)
SPEECH = Endpoint(path="/v1/audio/speech", word="speech", shape=media.SPEECH, api=media.API)
IMAGES = Endpoint(path="/v1/images/generations", word="images", shape=media.IMAGE, api=media.API)
EDITS = Endpoint(path="/v1/images/edits", word="edits", shape=media.IMAGE, api=media.API, form=True)

ENDPOINTS = tuple(each for each in list(globals().values()) if isinstance(each, Endpoint))
"""All of the above, in their order."""
BY_PATH: Mapping[str, Endpoint] = {each.path: each for each in ENDPOINTS}
BY_WORD: Mapping[str, Endpoint] = {each.word: each for each in ENDPOINTS}


def word_of(path: str) -> str:
    """ "" if there is no such endpoint."""
    found = BY_PATH.get(path)
    return found.word if found else ""


def api_of(path: str) -> Api:
    """`PLAIN` if there is no such endpoint."""
    found = BY_PATH.get(path)
    return found.api if found else PLAIN

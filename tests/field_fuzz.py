"""Requests of which one field is absent, null, of a wrong type or extreme, at every place that the
specifications of OpenAI and Anthropic know, and of Ollama's API and rerank at those that are known
here. Each must have one answer in time, and what is refused must be named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import orjson
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaMessages
from anthropic.types.message_count_tokens_params import MessageCountTokensParams as CountTokens
from anthropic.types.message_create_params import MessageCreateParamsBase as Messages
from openai.types.audio.transcription_create_params import (
    TranscriptionCreateParamsBase as Transcriptions,
)
from openai.types.audio.translation_create_params import TranslationCreateParams as Translations
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as Chat
from openai.types.completion_create_params import CompletionCreateParamsBase as Completions
from openai.types.embedding_create_params import EmbeddingCreateParams as Embeddings
from openai.types.image_edit_params import ImageEditParamsBase as Edits
from openai.types.image_generate_params import ImageGenerateParamsBase as Images
from openai.types.moderation_create_params import ModerationCreateParams as Moderations
from openai.types.responses.input_token_count_params import InputTokenCountParams as InputTokens
from openai.types.responses.response_create_params import ResponseCreateParamsBase as Responses

from schemas import multipart
from schemas.api.ollama import request as ollama
from schemas.api.rerank import RerankRequest as Rerank
from schemas.multipart import Part
from tests.specification import Place, places

TALK = {"messages": [{"role": "user", "content": "x"}]}
ASKED = {"input": "x"}
SPECIFIED: Mapping[str, tuple[str, Any, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", Chat, TALK),
    "completions": ("/v1/completions", Completions, {"prompt": "x"}),
    "embeddings": ("/v1/embeddings", Embeddings, ASKED),
    "responses": ("/v1/responses", Responses, ASKED),
    "input_tokens": ("/v1/responses/input_tokens", InputTokens, ASKED),
    "moderations": ("/v1/moderations", Moderations, ASKED),
    "rerank": ("/v1/rerank", Rerank, {"query": "x", "documents": ["x", {"text": "x"}]}),
    "messages": ("/v1/messages", Messages, {**TALK, "max_tokens": 5}),
    "messages_beta": ("/v1/messages", BetaMessages, {**TALK, "max_tokens": 5}),
    "count_tokens": ("/v1/messages/count_tokens", CountTokens, TALK),
    "transcriptions": ("/v1/audio/transcriptions", Transcriptions, {}),
    "translations": ("/v1/audio/translations", Translations, {}),
    "images": ("/v1/images/generations", Images, {"prompt": "x", "size": "64x64"}),
    "ollama_chat": ("/api/chat", ollama.ChatRequest, TALK),
    "ollama_generate": ("/api/generate", ollama.GenerateRequest, {"prompt": "x"}),
    "ollama_embed": ("/api/embed", ollama.EmbedRequest, ASKED),
    "ollama_embeddings": ("/api/embeddings", ollama.EmbeddingRequest, {"prompt": "x"}),
    "ollama_show": ("/api/show", ollama.ShowRequest, {}),
    "edits": ("/v1/images/edits", Edits, {"prompt": "x", "size": "64x64"}),
}
"""The path, the type of its parameters, and what of a good request is the same everywhere."""
FORMS = frozenset({"transcriptions", "translations", "edits"})
OF_EACH_KIND: tuple[Any, ...] = ("nonsense", 7, 1.5, True, [None], {"x": 1}, [], {})
EXTREMES = (
    *(b'""', b'"\\u0000"', b'"\\ud800"', b"0", b"-1", b"-0.0", b"1e308", b"-1e308", b"1e400"),
    *(b"18446744073709551615", b"18446744073709551616", b"-9223372036854775808"),
    *(b"[[[]]]", b"[{}]", b'{"type":"x"}', b'{"type":5}', b'{"type":null}'),
    *(b"[" * 300 + b"]" * 300, b'{"x":' * 300 + b"1" + b"}" * 300),
)
LARGE = (
    b'"' + b"x" * 1_000_000 + b'"',
    b"[" + b"1," * 99_999 + b"1]",
    b"[" + b'"x",' * 9_999 + b'"x"]',
)
"""At the top alone."""
IN_FORMS = (
    *(b"", b"null", b"0", b"-1", b"1.0", b"1e308", b"1e400", b"nan", b"inf", b"9" * 30, b"-0"),
    *(b"\x00", b"\xff\xfe", "ü".encode(), b"a\r\nb", b"[]", b"{}", b"x" * 65_536, b"x" * 70_000),
)
"""Extremes of a form's texts."""
UPLOADS = (b"", b"\xff" * 100)
"""Values of a form that are uploads."""
T = TypeVar("T")
DEFAULTS = frozenset({"model"})
"""Fields that the specifications need, and the fabric does not."""
WHOLE = os.environ.get("HEADRACE_FUZZ", "")
"""The endpoints whose every place is given every value by tests that draw a sample otherwise:
names of `SPECIFIED` with commas between them, or ``all``."""
SEED = 23
MARK = "here-it-goes"
DEEP = 9
"""A place deep inside is given every ninth of the values above, in turn: there are thousands."""

Ask = Callable[[bytes, str], Awaitable[tuple[int, bytes]]]
"""(status, body) of the answer to a body and its content type."""


@dataclass
class Fuzz:
    """Sends requests to one endpoint, and keeps what is wrong with the answers. `theirs`: codes of
    a 5xx that is the fault of the model or of a double. `in_time`: seconds that an answer may take.
    `form`: the requests are forms. `chance`: draws one of several values; without it, all of them
    are sent."""

    ask: Ask
    theirs: frozenset[str]
    in_time: float
    form: bool = False
    chance: Random | None = None
    found: list[str] = field(default_factory=list)

    async def place(self, place: Place, number: int, *, typed: bool = False) -> None:
        """All requests for one place. `number`: its turn. `typed`: a value of a type that it does
        not have must be refused."""
        good = (await self._send(f"{place.name} good", place.body))[0] == 200
        extremes = IN_FORMS if self.form else EXTREMES
        if len(place.path) == 1:
            await self._absent_and_null(place, good)
            await self._values(place, (*OF_EACH_KIND, *(UPLOADS if self.form else ())), typed)
            await self._extremes(place, extremes if self.form else (*extremes, *LARGE))
        elif good:  # what is not served is looked at no deeper
            turn = number % DEEP
            await self._absent_and_null(place, good)
            await self._values(place, OF_EACH_KIND[turn::DEEP])
            await self._extremes(place, extremes[turn::DEEP])

    async def _absent_and_null(self, place: Place, good: bool) -> None:
        absent, param = await self._send(f"{place.name} absent", place.without())
        refused = absent == 400 and param == place.name
        needed = place.required and len(place.path) == 1 and place.name not in DEFAULTS
        if good and needed and not refused:
            self.found.append(f"{place.name} is required: {absent} {param}")
        null, _ = await self._send(f"{place.name} null", place.with_value(None))
        if absent == 200 != null and not isinstance(place.path[-1], int):
            self.found.append(f"{place.name} may be absent, and is null: {null}")

    async def _values(self, place: Place, values: Sequence[Any], typed: bool = False) -> None:
        for value in self._drawn(values):
            kind = type(value).__name__
            status, param = await self._send(f"{place.name} {kind}", place.with_value(value))
            fits = kind in place.kinds or (kind == "float" and "int" in place.kinds)
            refused = status == 400 and param.startswith(str(place.path[0]))
            if typed and not fits and not refused:
                self.found.append(f"{place.name} is no {kind}: {status} {param}")

    async def _extremes(self, place: Place, values: Sequence[bytes]) -> None:
        raw, kind = self._written(place.with_value(MARK))
        mark = MARK.encode() if self.form else orjson.dumps(MARK)
        for value in self._drawn(values):
            await self._answered(f"{place.name} {value[:20]!r}", raw.replace(mark, value), kind)

    def _drawn(self, values: Sequence[T]) -> Sequence[T]:
        return [self.chance.choice(values)] if self.chance and values else values

    async def _send(self, what: str, document: Mapping[str, Any]) -> tuple[int, str]:
        return await self._answered(what, *self._written(document))

    def _written(self, document: Mapping[str, Any]) -> tuple[bytes, str]:
        if self.form:
            return multipart.encode(form_parts(document))
        return orjson.dumps(document), "application/json"

    async def _answered(self, what: str, body: bytes, kind: str) -> tuple[int, str]:
        """The status, and the `param` of an error."""
        try:
            async with asyncio.timeout(self.in_time):
                status, answer = await self.ask(body, kind)
            why, param = self._judged(status, answer)
        except TimeoutError:
            status, why, param = 0, f"no answer within {self.in_time} s", ""
        if why:
            self.found.append(f"{what}: {status} {why}\n    {body[:300]!r}")
        return status, param

    def _judged(self, status: int, answer: bytes) -> tuple[str, str]:
        """What is wrong with an answer, and the `param` of its error."""
        if status == 200:
            return "", ""
        try:
            found = orjson.loads(answer)
            error = found["error"]
            error = {**found, "message": error} if isinstance(error, str) else error
            code, message, param = error["code"], error["message"], error["param"]
        except (ValueError, KeyError, TypeError):
            return f"without the envelope: {answer[:200]!r}", ""
        if status >= 500:
            return "" if code in self.theirs else str(message), ""
        return "" if param else f"no param for {message}", param or ""


def form_parts(document: Mapping[str, Any]) -> list[Part]:
    """The document as a form: bytes are uploads, lists ``x[]``, and objects ``x[y]``."""
    return [part for name, value in document.items() for part in _parts(name, value)]


def _parts(name: str, value: Any) -> Iterable[Part]:
    if isinstance(value, bytes):
        yield Part(name, value, "upload.bin", "application/octet-stream")
    elif isinstance(value, list):
        for each in value:
            yield from _parts(f"{name}[]", each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _parts(f"{name}[{key}]", inner)
    else:
        text = value.encode() if isinstance(value, str) else orjson.dumps(value)
        yield Part(name, text)


async def tried(
    name: str, ask: Ask, base: Mapping[str, Any], sample: int, in_time: float
) -> list[str]:
    """What is wrong at an endpoint: at so many of its places, or at all that `WHOLE` asks for."""
    chance = None if is_whole(name) else Random(SEED)
    turns = list(enumerate(places_of(name, **base)))
    fuzz = Fuzz(ask, frozenset(), in_time, name in FORMS, chance)
    for number, place in chance.sample(turns, min(sample, len(turns))) if chance else turns:
        await fuzz.place(place, number)
    return fuzz.found


def is_whole(name: str) -> bool:
    return WHOLE == "all" or name in WHOLE.split(",")


def places_of(name: str, **more: Any) -> list[Place]:
    """Those of an endpoint; `more`: what a good request has here beside what `SPECIFIED` says."""
    _, kind, base = SPECIFIED[name]
    return list(places(kind, {**base, **more}))

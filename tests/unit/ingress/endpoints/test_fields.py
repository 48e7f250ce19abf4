"""Every field of OpenAI's and Anthropic's specifications, at every endpoint of texts: absent, null,
of a wrong type, and extreme. Each request has one answer in time, and what is refused is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaMessages
from anthropic.types.message_count_tokens_params import MessageCountTokensParams as CountTokens
from anthropic.types.message_create_params import MessageCreateParamsBase as Messages
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as Chat
from openai.types.completion_create_params import CompletionCreateParamsBase as Completions
from openai.types.embedding_create_params import EmbeddingCreateParams as Embeddings
from openai.types.moderation_create_params import ModerationCreateParams as Moderations
from openai.types.responses.input_token_count_params import InputTokenCountParams as InputTokens
from openai.types.responses.response_create_params import ResponseCreateParamsBase as Responses

from schemas.api.endpoints import BY_PATH
from tests.specification import Place, places
from tests.unit.ingress.endpoints.test_fuzz import OURS
from tests.unit.ingress.loopback import LoopbackIngress, Reply, loopback_ingress

TALK = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
ASKED = {"model": "echo", "input": "x"}
SPECIFIED: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", Chat, TALK),
    "completions": ("/v1/completions", Completions, {"model": "echo", "prompt": "x"}),
    "embeddings": ("/v1/embeddings", Embeddings, ASKED),
    "responses": ("/v1/responses", Responses, ASKED),
    "input_tokens": ("/v1/responses/input_tokens", InputTokens, ASKED),
    "moderations": ("/v1/moderations", Moderations, ASKED),
    "messages": ("/v1/messages", Messages, {**TALK, "max_tokens": 5}),
    "messages, beta": ("/v1/messages", BetaMessages, {**TALK, "max_tokens": 5}),
    "count_tokens": ("/v1/messages/count_tokens", CountTokens, TALK),
}
"""The path, the type of its parameters, and a good request."""
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
MARK = "here-it-goes"
DEEP = 9
"""A place deep inside is given every ninth of the values above, in turn: there are thousands."""
IN_TIME = 10.0
"""Seconds. The slowest takes 0.4 s on an idle machine."""
OWN = {("completions", "echo"): "the engine's own field, by which tests tell it what to do"}
TAKEN = {
    **{
        (name, "context_management"): "Anthropic's form of OpenAI's hint, or the other way round"
        for name in ("responses", "messages", "messages, beta")
    },
    ("completions", "logit_bias"): "llama-server takes lists of pairs",
    ("chat", "logit_bias"): "llama-server takes lists of pairs",
}
"""What is wrong to the specification, and right to an engine."""


@dataclass
class Fuzz:
    """Sends requests to one endpoint, and keeps what is wrong with the answers."""

    ingress: LoopbackIngress
    path: str
    found: list[str]

    async def send(self, what: str, body: bytes) -> Reply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await self.ingress.post(self.path, body)
        if loop.time() - began > IN_TIME:
            self._note(f"{what}: answered after {loop.time() - began:.1f} s", body)
        if answer.status >= 400:
            error = answer.json["error"]
            if answer.status >= 500 and error["code"] not in OURS:
                self._note(f"{what}: {answer.status} {error['message']}", body)
            if answer.status < 500 and not error["param"]:
                self._note(f"{what}: no param for {error['message']}", body)
        return answer

    def need(self, fine: bool, what: str, answer: Reply, body: bytes) -> None:
        if not fine:
            self._note(f"{what}: {answer.status} {answer.body[:200]!r}", body)

    def _note(self, what: str, body: bytes) -> None:
        self.found.append(f"{what}\n    {body[:300]!r}")

    async def absent_and_null(self, place: Place, good: bool) -> None:
        body = orjson.dumps(place.without())
        absent = await self.send(f"{place.name} absent", body)
        if good and place.required and len(place.path) == 1:
            refused = absent.status == 400 and absent.json["error"]["param"] == place.name
            self.need(refused, f"{place.name} is required", absent, body)
        body = orjson.dumps(place.with_value(None))
        null = await self.send(f"{place.name} null", body)
        if absent.status == 200 and not isinstance(place.path[-1], int):
            self.need(null.status == 200, f"{place.name} may be absent, and is null", null, body)

    async def of_each_kind(self, place: Place, values: Iterable[Any], strict: bool) -> None:
        for value in values:
            kind = type(value).__name__
            body = orjson.dumps(place.with_value(value))
            answer = await self.send(f"{place.name} {kind}", body)
            fits = kind in place.kinds or (kind == "float" and "int" in place.kinds)
            if strict and not fits:
                refused = answer.status == 400 and names(answer, place)
                self.need(refused, f"{place.name} is no {kind}", answer, body)

    async def extremes(self, place: Place, values: Iterable[bytes]) -> None:
        raw = orjson.dumps(place.with_value(MARK))
        for value in values:
            body = raw.replace(orjson.dumps(MARK), value)
            await self.send(f"{place.name} {value[:20].decode()}", body)


def names(answer: Reply, place: Place) -> bool:
    return str(answer.json["error"]["param"]).startswith(str(place.path[0]))


@pytest.mark.parametrize("name", SPECIFIED)
async def test_every_field(name: str) -> None:
    path, kind, base = SPECIFIED[name]
    typed = BY_PATH[path].shape.names
    async with loopback_ingress() as ingress:
        fuzz = Fuzz(ingress, path, [])
        for number, place in enumerate(places(kind, base)):
            top = str(place.path[0])
            if (name, top) in OWN:
                continue
            good = (await fuzz.send(f"{place.name} good", orjson.dumps(place.body))).status == 200
            await fuzz.absent_and_null(place, good)
            if len(place.path) == 1:
                strict = top in typed and (name, top) not in TAKEN
                await fuzz.of_each_kind(place, OF_EACH_KIND, strict)
                await fuzz.extremes(place, (*EXTREMES, *LARGE))
            elif good:  # what is not served is looked at no deeper
                turn = number % DEEP
                await fuzz.of_each_kind(place, OF_EACH_KIND[turn::DEEP], strict=False)
                await fuzz.extremes(place, EXTREMES[turn::DEEP])
    assert not fuzz.found, "\n".join(fuzz.found)

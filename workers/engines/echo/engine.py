"""A test double that ships: it has no model, but behaves like one, at a pace that is set.

Its URL is ``echo://?model=echo&slots=4&first_ms=0&token_ms=0&n=1&resume=1``. The answer repeats the
words of the last user message until `max_tokens`, or says them once without it. With ``n=0`` it
always gives one choice; with ``resume=0`` it continues no answer that another engine began. It has
all endpoints for texts: embeddings are a hash of the text, and documents are ranked by the words
that they share with the query.

It calls a tool if `tool_choice` requires it: the named one, else the first, with the answer as the
only argument ``text``. The request's field ``echo`` sets pace, faults and words for that request::

    {"echo": {"first_ms": 50, "token_ms": 10, "fault": "cut", "at": 3,
              "thinks": "hm", "calls": [{"name": "f", "arguments": {}}],
              "says": ["first answer", "second and later"], "as": "what counts the answers"}}

Faults after `at` tokens of this attempt: ``cut`` (the stream ends without [DONE]), ``hang``
(nothing more comes, and the engine does not answer probes), ``error`` (an error event), ``exit``
(the process dies).
Faults before the head: ``400``, ``500``, ``503``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import orjson

from schemas import settings
from schemas.api import endpoints, piecewise, sse
from schemas.api.base import PLAIN, Api, Event
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel, resuming
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.echo import own
from workers.engines.echo import words as say
from workers.engines.echo.chat import Completions
from workers.engines.echo.events import Messages, Responses
from workers.engines.echo.words import Token
from workers.engines.openai.refusal import JSON, Refusal

CONTEXT = 8192
PAGES = {
    **say.PAGES,
    endpoints.TOKENIZE.path: own.tokenize,
    endpoints.DETOKENIZE.path: own.detokenize,
    endpoints.TEMPLATE.path: own.template,
}
FEATURES = (
    *("chat", "completions", "responses", "messages", "own_completion"),
    *(endpoints.WORDS[path] for path in PAGES),
    *("tools", "logprobs", "json_schema"),
)
RESUMES = tuple(
    resuming(each.path)
    for each in (endpoints.CHAT, endpoints.COMPLETIONS, endpoints.RESPONSES, endpoints.MESSAGES)
)


class Writer(Protocol):
    """Turns tokens into an API's events. The API's collector makes the document of the events."""

    generated: int
    """Tokens of all choices so far."""

    def begin(self) -> list[Event]: ...
    def add(self, choice: int, token: Token) -> list[Event]: ...
    def end(self) -> list[Event]: ...


@dataclass(frozen=True, slots=True)
class Script:
    """How a request wants to be answered."""

    first_ms: float = 0.0
    token_ms: float = 0.0
    fault: str = ""
    at: int = 0
    thinks: str = ""
    says: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    key: str = ""


class EchoEngine:
    kind = "echo"

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        query = {key: values[-1] for key, values in parse_qs(urlsplit(config.url).query).items()}
        self._models = tuple(config.models or query.get("model", "echo").split(","))
        self._slots = config.slots or int(query.get("slots", "4"))
        self._pace = Script(float(query.get("first_ms", "0")), float(query.get("token_ms", "0")))
        self._several = query.get("n", "1") != "0"
        self._resumes = query.get("resume", "1") != "0"
        self._digest = config.digest or query.get("digest", "")
        self._asked: Counter[str] = Counter()
        self._hung = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def discover(self) -> Offer:
        features = (
            *FEATURES,
            *(("n",) if self._several else ()),
            *(RESUMES if self._resumes else ()),
        )
        models = tuple(
            ServedModel(
                *(model, self.name, self.kind, self._slots, CONTEXT, ("text",)),
                features=features,
                digest=self._digest,
            )
            for model in self._models
        )
        return Offer(self._slots, models)

    async def check(self) -> None: ...

    async def probe(self) -> bool:
        return not self._hung

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        request = await piecewise.load(body)
        try:
            script = self._script(request)
            if script.fault.isdigit():  # before the head
                self._fail(int(script.fault))
            if (page := PAGES.get(job.endpoint)) is not None:
                await _wait(script.first_ms)
                document, tokens = page(job.asked, request)
                sink.start(200, JSON)
                sink.data(orjson.dumps(document))
                return End(tokens, 0, 0, _since(began))
            prompt, generated = await self._generate(job, request, script, sink)
        except Refusal as refusal:
            return refusal.answer(sink)
        return End(prompt, generated, 0, _since(began))

    async def _generate(
        self, job: Job, request: dict[str, Any], script: Script, sink: Sink
    ) -> tuple[int, int]:
        api = endpoints.APIS.get(job.endpoint, PLAIN)
        words = say.words(request.get(api.prompt))
        if len(words) > CONTEXT:
            why = f"{len(words)} tokens are more than the context has ({CONTEXT})."
            raise Refusal(why, param=api.prompt, code="context_length_exceeded", source="engine")
        tokens, finish = self._answer(request, api, script, words)
        choices = int(request.get("n") or 1) if self._several and not api.own else 1
        writer = _writer(job, request, choices, finish, len(words))
        answer = _Answer(api, sink, job.stream)
        await _wait(script.first_ms)
        answer.begin(writer.begin())
        # An answer that was begun elsewhere: its tokens are counted, but not said again.
        known = say.begun(tokens, job.begun.text if job.begun else "")
        writer.generated += known
        for index, token in enumerate(tokens[known:]):
            await self._fault(script, index)
            await _wait(script.token_ms)
            for choice in range(choices):
                answer.add(writer.add(choice, token))
        await self._fault(script, len(tokens) - known)
        answer.end(writer.end())
        return len(words), writer.generated

    def _answer(
        self, request: dict[str, Any], api: Api, script: Script, words: list[str]
    ) -> tuple[list[Token], str]:
        """The tokens to say, and why they end."""
        if script.says:
            said = script.says[min(self._asked[script.key], len(script.says) - 1)]
            self._asked[script.key] += 1
            words = said.split(" ")
        thoughts = [Token(thought=word) for word in say.pieces(script.thinks.split(), 0)]
        calls = script.calls or say.forced_calls(request, words)
        if calls:
            return thoughts + say.call_tokens(calls), "tool_calls"
        limit = min(say.limit(request, api, len(words)), CONTEXT)
        texts, stopped = say.until_stop(say.pieces(words, limit), request)
        finish = "stop" if stopped or limit == len(words) else "length"
        return thoughts + [Token(text=text) for text in texts], finish

    def _script(self, request: dict[str, Any]) -> Script:
        own = request.get("echo")
        if own is None:
            return self._pace
        try:
            return Script(
                float(own.get("first_ms", self._pace.first_ms)),
                float(own.get("token_ms", self._pace.token_ms)),
                str(own.get("fault", "")),
                int(own.get("at", 0)),
                str(own.get("thinks", "")),
                [str(text) for text in own.get("says", ())],
                [{"name": str(call["name"]), **call} for call in own.get("calls", ())],
                str(own.get("as", "")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as fault:
            raise Refusal(f"Invalid value for 'echo': {fault}.", param="echo") from None

    def _fail(self, status: int) -> None:
        if status >= 500:
            raise EngineFault(f"echo: status {status}, as asked", away=status == 503)
        raise Refusal("refused, as asked", code="as_asked", status=status, source="engine")

    async def _fault(self, script: Script, index: int) -> None:
        if not script.fault or script.at != index:
            return
        match script.fault:
            case "cut":
                raise EngineFault(f"{self.name} ended its stream before [DONE]")
            case "error":
                raise EngineFault(f"{self.name}: as asked, an error", retryable=False)
            case "exit":
                os._exit(9)  # as in a crash: nothing is told or flushed
            case "hang":
                self._hung += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    self._hung -= 1


class _Answer:
    """Sends events as they come, or their document at the end."""

    def __init__(self, api: Api, sink: Sink, stream: bool) -> None:
        self._api = api
        self._sink = sink
        self._collector = None if stream else api.collector()

    def begin(self, events: list[Event]) -> None:
        if self._collector is None:
            self._sink.start(200, sse.CONTENT_TYPE)
        self.add(events)

    def add(self, events: list[Event]) -> None:
        if self._collector is None:
            self._sink.data(b"".join(sse.dump(event, self._api.named) for event in events))
            return
        self._sink.touch()
        for event in events:
            self._collector.add(event)

    def end(self, events: list[Event]) -> None:
        self.add(events)
        if self._collector is not None:
            self._sink.start(200, JSON)
            self._sink.data(orjson.dumps(self._collector.document))
        elif not (self._api.named or self._api.own):
            self._sink.data(sse.DONE)


def _writer(job: Job, request: Mapping[str, Any], choices: int, finish: str, prompt: int) -> Writer:
    """`finish`: OpenAI's finish reason. `prompt`: the prompt's tokens. Raises Refusal."""
    match job.endpoint:
        case endpoints.CHAT.path | endpoints.COMPLETIONS.path:
            return Completions(job, request, choices, finish, prompt)
        case endpoints.RESPONSES.path:
            return Responses(job, request, finish, prompt)
        case endpoints.MESSAGES.path:
            return Messages(job, finish, prompt)
        case endpoints.OWN_COMPLETION.path:
            return own.OwnCompletion(job, request, finish, prompt)
    raise Refusal(f"The echo engine has no {job.endpoint}.", code="unsupported_endpoint")


async def _wait(milliseconds: float) -> None:
    await asyncio.sleep(milliseconds / 1000)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)

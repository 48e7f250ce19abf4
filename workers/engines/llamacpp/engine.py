"""llama.cpp's llama-server, as measured on b11549.

The worker asks it to stream wherever it can, because only then does llama-server notice within
milliseconds that nobody listens. Its own queue is unbounded and silent, so it never gets more jobs
than it has slots. It ignores `model`, so requests go as they come. Its events and documents are
mended where they differ from the documented ones (`stream`, `aggregate`, `responses`, `messages`).
The fields that it ignores silently are on its card (`capabilities`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from schemas import settings
from schemas.api import endpoints, piecewise, rerank
from schemas.api.base import Document, Event, Usage, wants_usage
from schemas.api.messages import answer as messages_answer
from schemas.api.piecewise import LARGE
from schemas.api.responses import answer as responses_answer
from schemas.jobs import Job
from schemas.nodes import ServedModel, resuming, resuming_thoughts
from workers.engines import digest
from workers.engines.base import EngineFault, Sink
from workers.engines.http.upstream import read_error
from workers.engines.llamacpp import (
    capabilities,
    faults,
    logprobs,
    messages,
    messages_by_chat,
    native,
    own_pages,
    questions,
    reasoning,
    responses,
    responses_request,
)
from workers.engines.llamacpp import request as llamacpp_request
from workers.engines.llamacpp.aggregate import Aggregate, choices_per_prompt, prepare
from workers.engines.llamacpp.messages import MessageStart, StopReason
from workers.engines.llamacpp.own_completion import OwnCompletion
from workers.engines.llamacpp.schema.request import SIGNS as SCHEMA_SIGNS
from workers.engines.llamacpp.schema.request import prepare_schemas
from workers.engines.llamacpp.stream import COUNTS, EMPTY, NULL, FirstChunks, OneUsage, with_role
from workers.engines.llamacpp.tools import messages as tools_messages
from workers.engines.llamacpp.tools import prompt as tools_prompt
from workers.engines.llamacpp.tools import responses as tools_responses
from workers.engines.llamacpp.tools.chat import CallsInDocument, CallsInStream
from workers.engines.llamacpp.tools.prompt import Expected
from workers.engines.openai import parsed
from workers.engines.openai.engine import PROBE_TIMEOUT, OpenAIEngine
from workers.engines.openai.refusal import JSON, Refusal, translate
from workers.engines.openai.rewrite import Change, Discard, Rewriting
from workers.engines.openai.stream import Mend, Relay, says, timed

CHAT, COMPLETIONS = endpoints.CHAT.path, endpoints.COMPLETIONS.path
RESPONSES, MESSAGES = endpoints.RESPONSES.path, endpoints.MESSAGES.path
INPUT_TOKENS, COUNT_TOKENS = endpoints.INPUT_TOKENS.path, endpoints.COUNT_TOKENS.path
EMBEDDINGS, RERANK = endpoints.EMBEDDINGS.path, endpoints.RERANK.path
HEALTH, SLOTS = "/health", "/slots"
CHAT_TOKENS, TEMPLATE = endpoints.CHAT_TOKENS.path, endpoints.TEMPLATE.path

_SPECIAL = b'"n"', b'"n_cmpl"', b'"top_logprobs"'
"""A chat's request without any of these needs no parsing."""
_TEXTS = (CHAT, CHAT_TOKENS, TEMPLATE, RESPONSES, INPUT_TOKENS, MESSAGES, COUNT_TOKENS)
_COUNTED = (COUNT_TOKENS, INPUT_TOKENS, CHAT_TOKENS, TEMPLATE)
_TOOLS: Mapping[str, tuple[tools_prompt.Prepare, tuple[bytes, ...]]] = {
    **dict.fromkeys((CHAT, CHAT_TOKENS, TEMPLATE), (tools_prompt.prepare, (tools_prompt.SIGN,))),
    **dict.fromkeys((RESPONSES, INPUT_TOKENS), (tools_responses.prepare, tools_responses.SIGNS)),
    **dict.fromkeys((MESSAGES, COUNT_TOKENS), (tools_messages.prepare, tools_messages.SIGNS)),
}
"""By endpoint: the function that prepares requests with tools, and what marks their bodies."""


class LlamaCppEngine(OpenAIEngine):
    kind = "llamacpp"
    token_events = True

    def __init__(self, config: settings.Engine) -> None:
        super().__init__(config)
        self._props: dict[str, Any] = {}
        self._probe_path = HEALTH
        self._obeyed = False  # it forces the calls that a request requires
        self._thinks = False

    async def probe(self) -> bool:
        status, page = await self._http.ask("GET", self._probe_path, PROBE_TIMEOUT)
        return status == 200 and not (self._probe_path == SLOTS and capabilities.spins(page))

    # What it offers.

    async def _list(self) -> dict[str, dict[str, Any]]:
        """Its only model: llama-server serves the first that it lists; ``/props`` describes it."""
        self._props = await self._http.json("/props", PROBE_TIMEOUT)
        if not isinstance(self._props, dict) or "total_slots" not in self._props:
            why = f"{self.name} does not answer like llama-server: is the URL right?"
            raise EngineFault(why, away=True)
        if self._props.get("endpoint_slots"):
            self._probe_path = SLOTS  # the inference loop answers it, unlike /health
        listed = await super()._list()
        return dict(list(listed.items())[:1])

    async def _slots(self) -> int:
        return int(self._props["total_slots"])

    def _choose(self, listed: Mapping[str, Any]) -> dict[str, str]:
        """All names of the config stand for the one model; without any, its alias or file name."""
        own = next(iter(listed), "")
        return dict.fromkeys(self._config.models or [_bare(own)], own)

    async def _describe(
        self, public: str, own: str, entry: dict[str, Any], slots: int
    ) -> ServedModel:
        words = await self._found_endpoints()
        if "embeddings" in words and not await questions.generates(self._http, self.check_timeout):
            words = tuple(word for word in words if word not in capabilities.GENERATING)
        if "rerank" in words:
            words = tuple(word for word in words if word != "embeddings")
        senses = capabilities.senses(self._props)
        can = capabilities.abilities(self._props, words) if "chat" in words else ()
        can += await self._resumes(words)
        self._thinks = capabilities.thinks(self._props)
        offers = bool(can) and capabilities.knows_tools(self._props)
        self._obeyed = offers and await questions.obeys(self._http, self.check_timeout)
        file = str(self._props.get("model_path") or "")
        told = await digest.find(self._config, *capabilities.weights(self._props, entry), file=file)
        about = public, self.name, self.kind, slots, capabilities.context(self._props)
        return ServedModel(
            *about,
            ("text", *senses),
            (*words, *can, *senses),
            capabilities.ignored(self._props, entry, words),
            capabilities.known(words),
            told,
        )

    async def _resumes(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The endpoints whose answers it can continue: those of texts always, and those of messages
        if the chat template leaves an assistant's last message open; chats with their thoughts."""
        opened = "chat" in words and await questions.stays_open(self._http)
        paths = (COMPLETIONS, *((CHAT, RESPONSES, MESSAGES) if opened else ()))
        thinks = opened and capabilities.thinks(self._props)
        self._thought_end = await questions.thought_end(self._http) if thinks else ""
        texts = tuple(resuming(path) for path in paths if endpoints.WORDS[path] in words)
        return (*texts, resuming_thoughts(CHAT)) if self._thought_end else texts

    async def _count(self, own: str, text: str) -> int:
        return await questions.count(self._http, text)

    def _changes(self, job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
        if job.endpoint == EMBEDDINGS and request.get("input") is None:
            return {"input": request.get("content")}  # its own name has an answer of its own form
        return rerank.as_texts(request) if job.endpoint == RERANK else {}

    # What it answers.

    async def _serve(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        if job.endpoint in (*own_pages.PATHS, native.PATH, native.BETWEEN):
            return await self._serve_own(job, parsed.load(body), sink)
        if job.endpoint in _TEXTS and says(body, *llamacpp_request.SIGNS):
            body = llamacpp_request.without(body)
            await parsed.pause(body)
        asked = body
        if self._thinks and says(body, *reasoning.SIGNS):
            body = reasoning.mapped(body, job.endpoint, capabilities.has_degrees(self._props))
            await parsed.pause(body)
        match job.endpoint:
            case endpoints.CHAT.path if says(body, tools_prompt.SIGN) and not self._obeyed:
                return await self._offer(job, body, sink)
            case endpoints.CHAT.path | endpoints.COMPLETIONS.path:
                return await self._complete(job, body, sink)
            case endpoints.RESPONSES.path:
                return await self._respond(job, asked, body, sink)
            case endpoints.MESSAGES.path:
                return await self._message(job, body, sink)
            case endpoint if endpoint in _COUNTED:
                with tools_prompt.naming_tools():
                    sent, _ = self._prepare_tools(job, body)
                    if endpoint == INPUT_TOKENS:
                        sent = responses_request.plain(sent)
                    body = prepare_schemas(await parsed.written(sent, body))
        return await super()._serve(job, body, sink)

    def _prepare_tools(
        self, job: Job, body: bytes, request: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Expected | None]:
        """The request to send, and the calls to expect in its text. A request is rewritten if
        the engine cannot offer its tools to the model, or cannot force a call. `request`: the body,
        if it is parsed already; it stays as it is."""
        request = parsed.load(body) if request is None else request
        prepare_tools, signs = _TOOLS[job.endpoint]
        if self._obeyed or not says(body, *signs):
            return request, None
        return prepare_tools(request, capabilities.knows_tools(self._props))

    async def _offer(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        sent, expected = self._prepare_tools(job, body)
        if expected is not None:
            if job.stream:
                sink = CallsInStream(sink, expected, choices_per_prompt(sent))
            else:
                sink = CallsInDocument(sink, expected)
        with tools_prompt.naming_tools():
            return await self._complete(job, await parsed.written(sent, body), sink)

    async def _complete(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        """Answer a chat or a text completion. Most streams of chats need a change in the first
        chunk only, so they pass without parsing."""
        text = job.endpoint == COMPLETIONS
        if job.stream and not text and not says(body, *_SPECIAL):
            return self._usage(await self._send(job, body, sink, _opened))
        request: dict[str, Any] = parsed.load(body)
        if text:
            await self._check_text(job, request)
        choices = choices_per_prompt(request)
        sent, changes = logprobs.prepare(request, text)
        if not job.stream:
            body = await parsed.written(prepare(sent), body)
            return await self._aggregate(job, body, choices, sink, changes)
        body = await parsed.written(sent, body) if sent is not request else body
        for change in reversed(changes):  # what is wrapped last sees an event first
            sink = Rewriting(sink, change)
        if not text:
            if choices == 1:
                return self._usage(await self._send(job, body, sink, _opened))
            sink = FirstChunks(sink, choices)
        one = OneUsage(choices, wants_usage(request))
        await self._send(job, body, Rewriting(sink, one.change, one.last, COUNTS))
        return one.usage()

    async def _check_text(self, job: Job, request: Mapping[str, Any]) -> None:
        """Raises Refusal for a request that would never end, or would mean something else. A text
        between two others has tokens of its own, even if both are empty."""
        if request.get("max_tokens") == 0:
            raise Refusal("llama-server writes at least one token.", param="max_tokens")
        between = request.get("suffix") and endpoints.INFILL.word in self._served(job).features
        if choices_per_prompt(request) > 1 and not between:
            await questions.need_something_said(self._http, request["prompt"])

    async def _aggregate(
        self, job: Job, body: bytes, choices: int, sink: Sink, changes: list[Change]
    ) -> Usage | None:
        answer = Aggregate(sink, choices)
        await self._send(job, body, answer)
        document = answer.document
        if document is not None:
            for change in changes:
                change(document)
        await self._send_document(sink, document, answer.size)
        return answer.usage()

    async def _serve_own(self, job: Job, request: dict[str, Any], sink: Sink) -> Usage | None:
        """Answer at an endpoint that only llama-server has."""
        if job.endpoint in own_pages.PATHS:
            await self._send_document(sink, await self._tokens(job, request))
            return None
        if choices_per_prompt(request) > 1 and job.endpoint == native.PATH:
            await questions.need_something_said(self._http, request["prompt"])
        own = OwnCompletion(request, native.marker(self._props), job.asked)
        out = Rewriting(sink if job.stream else Discard(sink), own.change)
        await self._send(job, await parsed.written(own.sent), out)
        if not own.whole:
            raise EngineFault(f"{self.name} ended its stream before its end was said", away=True)
        if not job.stream:
            await self._send_document(sink, own.document)
        return own.usage

    async def _tokens(self, job: Job, request: dict[str, Any]) -> Document:
        async def page(path: str, asked: Mapping[str, Any]) -> Document:
            status, answer = await self._http.post(path, asked, PROBE_TIMEOUT)
            if status != 200:
                raise self._refused(job, status, answer)
            found: Document = await piecewise.load(answer)
            return found

        return await own_pages.answer(page, job, request, self._served(job).context)

    async def _respond(self, job: Job, asked: bytes, body: bytes, sink: Sink) -> Usage | None:
        """`asked`: the body before it was put in llama-server's words, which the answer repeats."""
        request = parsed.load(asked)
        sent, expected = self._prepare_tools(job, body, request if body is asked else None)
        repair = responses.Repair(request, job.asked, capabilities.context(self._props))
        collector = responses_answer.Collector()

        def collect(event: Event) -> None:
            for each in repair.change(event):
                collector.add(each)

        out = Rewriting(sink, repair.change) if job.stream else Rewriting(Discard(sink), collect)
        if expected is not None:
            out = Rewriting(out, tools_responses.CallsInStream(expected).change)
        with tools_prompt.naming_tools():
            body = await parsed.written(responses_request.prepare(sent), body)
            usage = self._usage(await self._send(job, body, out))
        if not job.stream:
            await self._send_document(sink, collector.document)
        return usage

    async def _message(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        if says(body, *messages_by_chat.SIGNS):
            asked = parsed.load(body)
            if messages_by_chat.is_needed(asked, self._obeyed):
                return await self._message_by_chat(job, asked, sink)
        request, expected = self._prepare_tools(job, body)
        collector = messages_answer.Collector()
        out: Sink = StopReason(sink if job.stream else Rewriting(Discard(sink), collector.add))
        if expected is not None:
            out = Rewriting(out, tools_messages.CallsInStream(expected).change)
        sent = await parsed.written(messages.prepare(request))
        usage = await self._begun(job, request, sent, out)
        if not job.stream:
            await self._send_document(sink, collector.document)
        return usage

    async def _message_by_chat(self, job: Job, request: dict[str, Any], sink: Sink) -> Usage | None:
        """Send the message as a chat, in which llama-server enforces a schema, and turn the chat's
        events into those of a message."""
        sent, expected = messages_by_chat.as_chat(request), None
        if not self._obeyed:
            sent, expected = tools_prompt.prepare(sent, capabilities.knows_tools(self._props))
        collector = messages_answer.Collector()
        inner = sink if job.stream else Rewriting(Discard(sink), collector.add)
        async with self._message_start(job, request, inner) as start:
            answer = messages_by_chat.AsMessage(start)
            out: Sink = answer
            if expected is not None:
                # OpenAI ends a call that was named with "stop", Anthropic each with "tool_use".
                out = CallsInStream(answer, replace(expected, named=False), 1)
            with tools_prompt.naming_tools():
                as_chat = replace(job, endpoint=CHAT)
                await self._send(as_chat, await parsed.written(sent), out)
        if not job.stream:
            await self._send_document(sink, collector.document)
        return answer.usage

    async def _begun(
        self, job: Job, request: dict[str, Any], body: bytes, sink: Sink
    ) -> Usage | None:
        async with self._message_start(job, request, sink) as start:
            usage = self._usage(await self._send(job, body, start))
        # The event that tells of the prompt was missing, so the tokens were asked for.
        if usage is not None and start.counted >= 0:
            return Usage(start.counted, usage.completion, 0)
        return usage

    def _message_start(self, job: Job, request: dict[str, Any], sink: Sink) -> MessageStart:
        async def count() -> int:
            body = prepare_schemas(await parsed.written(request))
            status, answer = await self._http.ask("POST", COUNT_TOKENS, PROBE_TIMEOUT, body, JSON)
            return int(orjson.loads(answer)["input_tokens"]) if status == 200 else 0

        return MessageStart(sink, f"msg_{job.id}", job.asked, count)

    async def _send(self, job: Job, body: bytes, sink: Sink, mend: Mend | None = None) -> Relay:
        if says(body, *SCHEMA_SIGNS):
            body = prepare_schemas(body)
            await parsed.pause(body)
        if says(body, logprobs.SIGN) and job.endpoint == CHAT and says(body, tools_prompt.SIGN):
            body, sink = logprobs.beside_tools(body, sink)
        path, own = job.endpoint, None
        if path == COMPLETIONS:
            own = native.own_form(body, self._served(job).features, self._props)
            path, body = own or (path, body)
        async with self._http.call("POST", path, body, JSON) as response:
            if len(body) > LARGE:
                parsed.forget()
            if not response.succeeded:
                raise self._refused(job, response.status, await read_error(response))
            said = native.AsCompletion(response, f"cmpl-{job.id}") if own else response
            return await self._relay(job, said, sink, body, mend)

    def _usage(self, relay: Relay) -> Usage | None:
        return super()._usage(relay) or timed(relay.tail)

    def _refused(self, job: Job, status: int, body: bytes) -> Exception:
        refusal = translate(status, body)
        if status == 501:  # started without this endpoint
            code, why = "unsupported_endpoint", refusal.message
            return Refusal(why, param="model", code=code, source="engine")
        return super()._refused(job, faults.status_of(status, refusal.message), body)

    def _explain(self, job: Job, refusal: Refusal) -> Refusal:
        faults.explain(job.endpoint, refusal)
        return refusal


def _opened(events: bytes) -> bytes:
    """The first events of a chat, with empty content in place of llama-server's null."""
    return events.replace(NULL, EMPTY) if NULL in events else with_role(events)


def _bare(name: str) -> str:
    """The file's name, if the model's name is a path, as on a server without an alias."""
    return name.rsplit("/", 1)[-1].removesuffix(".gguf") if name.endswith(".gguf") else name

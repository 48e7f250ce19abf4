"""Any server that speaks OpenAI's API; the base of the engines that do.

Bytes pass both ways unchanged. A request is rewritten only if the client's name for the model
differs from the engine's. Such a server tells neither its slots (default: 4, see `slots` in the
config) nor its context length. When a client leaves, the worker closes the connection; whether the
server then stops is up to the server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import orjson

from schemas import settings
from schemas.api import endpoints, media, piecewise, piecewise_write, sse
from schemas.api.base import PLAIN, Document, Usage, wants_usage
from schemas.api.piecewise import LARGE
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import MOST_MODELS, Ignored, ServedModel
from workers.engines import identity
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.http.connection import Response
from workers.engines.http.upstream import Upstream, read_error, read_whole
from workers.engines.openai import documents, parsed, single_call
from workers.engines.openai.continued import Part, added_tokens, reopened
from workers.engines.openai.media_use import HEARING, meter
from workers.engines.openai.missing_fields import TOOLS, with_missing_fields
from workers.engines.openai.refusal import JSON, Refusal, passed_over, refuse_ignored, translate
from workers.engines.openai.request_body import aside, json_object, name_form
from workers.engines.openai.required_call import TOOL_CHOICE, required
from workers.engines.openai.rewrite import Discard, Rewriting, Thoughts
from workers.engines.openai.stream import Given, Mend, ModelName, Relay, is_stream, says
from workers.engines.openai.whole_answer import read, read_mended, unlike

PROBE_TIMEOUT = 10.0
ASK_TIMEOUT = 10.0

SMALL_JOBS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        endpoints.CHAT.path,
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
    ),
    "completions": (endpoints.COMPLETIONS.path, {"prompt": "hi", "max_tokens": 1}),
    "embeddings": (endpoints.EMBEDDINGS.path, {"input": "hi"}),
}
"""A small request for each endpoint, by feature; `check` tries the ones that a model has."""
_ABSENT = frozenset({404, 405, 501})
"""llama-server says 501 of an endpoint that it was started without."""
_BUSY = frozenset({408, 425, 429})
"""Refusals that are not the request's fault: another try may succeed."""
_LACKS = re.compile(r"\bpip install\b|\b[Pp]lease install\b|\bNo module named\b")
"""What a server says that lacks a library, such as vLLM with a 400: that is no client's fault."""


class OpenAIEngine:
    kind = "openai"
    default_slots: ClassVar[int] = 4
    check_timeout: ClassVar[float] = 60.0
    token_events: ClassVar[bool] = False
    """Whether each event of a stream has one token, or those of one character outside of ASCII. To
    count a text's tokens anew may give another number (measured: 121 for 120)."""
    ignored_fields: ClassVar[tuple[Ignored, ...]] = ()
    """Request fields that this kind of engine ignores silently. Each model's card lists them, and
    a request that uses one is refused, unless the job is `lenient`."""

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        self._config = config
        # People write OpenAI's base URL, but the endpoints' own paths begin with /v1.
        url = config.url.rstrip("/").removesuffix("/v1")
        self._http = Upstream(config.name, url, config.api_key.get_secret_value())
        self._models: dict[str, ServedModel] = {}
        self._own: dict[str, str] = {}
        self._listed: frozenset[str] = frozenset()
        self._endpoints: tuple[str, ...] = ()
        self._thought_end = ""  # what stands between a thought and the text, if it takes back both
        self._running = 0

    async def open(self) -> None: ...

    async def close(self) -> None:
        await self._http.close()

    async def discover(self) -> Offer:
        listed = await self._list()
        slots = self._config.slots or await self._slots()
        self._own = self._choose(listed)
        self._listed = frozenset(listed)
        self._endpoints = ()
        found = [
            await self._describe(public, own, listed[own], slots)
            # One more than is served, so that its worker tells of those that are not.
            for public, own in islice(self._own.items(), MOST_MODELS + 1)
        ]
        self._models = {model.id: model for model in found}
        return Offer(slots, tuple(found))

    async def check(self) -> Offer | None:
        """Ask the first model for one token or one embedding."""
        if not self._models:
            return None
        model = next(iter(self._models.values()))
        why = ""
        for feature, (path, body) in SMALL_JOBS.items():
            if feature not in model.features:
                continue
            own = {"model": self._own[model.id], **body}
            status, answer = await self._http.post(path, own, self.check_timeout)
            if status == 200:
                return None
            # Not all that seem to be there work: a model for vectors may be asked for a chat first.
            why = translate(status, answer).message
        if why:
            raise EngineFault(f"{self.name} failed a small job: {why}", away=True)
        return None

    async def probe(self) -> bool:
        """Whether the engine still lists its models. Raises EngineFault if an idle engine lists
        others than before, so that it is discovered again."""
        found = frozenset(await self._list())
        if found != self._listed and not self._running:
            raise EngineFault(f"{self.name} has other models than before", away=True)
        return True

    async def said_kind(self) -> str:
        return await identity.ask(self._http)

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        if len(body) > LARGE:
            await parsed.know(body)
        if job.begun is None:
            return await self._run(job, body, sink)
        if job.begun.thoughts and not self._thought_end:
            raise EngineFault(f"{self.name} does not go on from thoughts")
        end, count = self._thought_end, partial(self._count, self._own.get(job.model, ""))
        begun = await reopened(job.begun, end, count)
        so_far = begun.thoughts + begun.text
        prompted = job.endpoint == endpoints.COMPLETIONS.path
        before = parsed.load(body)["prompt"] if prompted and so_far else ""
        read = await added_tokens(begun, end, before, count) if so_far else 0
        # Where an event may hold several tokens, their number in events is too low: a thought's
        # first line end, too, waits for the token behind it (measured at llama-server).
        exact = self.token_events and so_far.isascii() and not begun.thoughts
        written = begun.tokens if exact else max(begun.tokens, read)
        part = Part(sink, endpoints.APIS[job.endpoint], body, begun, read, written)
        return part.whole(await self._run(job, part.body, part))

    async def _run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        self._running += 1
        try:
            call = None
            # What is wrapped last sees the answer first: the name of the model, then of several
            # calls the first one, then the call that must come, then what the API documents.
            plain = job.endpoint == endpoints.CHAT.path and not says(body, TOOLS)
            media_use = None if plain else meter(sink, job, body)
            inner = out = sink if plain else with_missing_fields(media_use or sink, job, body)
            if says(body, TOOL_CHOICE) and not job.lenient:
                call = required(out, body, self._served(job), job.endpoint)
                inner = call or out
            if says(body, *single_call.SIGNS):
                inner = single_call.single(inner, body, endpoints.APIS.get(job.endpoint, PLAIN))
            said = body if plain else await documents.as_texts(job, body)
            usage = await self._serve(job, said, ModelName(inner, job.asked))
            if call is not None:
                call.close()
        except Refusal as refusal:
            return refusal.answer(sink)
        finally:
            self._running -= 1
        took = round((time.monotonic() - began) * 1000)
        used = await media_use.found() if media_use is not None else {}
        if usage is None:
            return End(engine_ms=took, **used)
        return End(usage.prompt, usage.completion, usage.cached, took, **used)

    # What subclasses override.

    async def _list(self) -> dict[str, dict[str, Any]]:
        """The engine's entry for each model, by the engine's name for it."""
        found = await self._http.json("/v1/models", PROBE_TIMEOUT)
        try:
            return {str(entry["id"]): entry for entry in found["data"]}
        except (KeyError, TypeError):
            why = f"{self.name} does not list models like an OpenAI server: is the URL right?"
            raise EngineFault(why, away=True) from None

    async def _slots(self) -> int:
        return self.default_slots

    async def _describe(
        self, public: str, own: str, entry: dict[str, Any], slots: int
    ) -> ServedModel:
        features = await self._found_endpoints()
        ignores = self.ignored_fields
        about = public, self.name, self.kind, slots
        digest = self._config.digest
        return ServedModel(*about, features=features, ignores=ignores, digest=digest)

    def _changes(self, job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
        """Fields to set in the request before it goes to the engine."""
        own = self._own[job.model]
        return {} if request.get("model") == own else {"model": own}

    async def _count(self, own: str, text: str) -> int:
        """The tokens of a text; 0 if the engine does not tell."""
        return 0

    async def _guard(self, job: Job, request: Mapping[str, Any]) -> None:
        """Raises Refusal for a request that the engine would silently answer wrongly."""

    def _usage(self, relay: Relay) -> Usage | None:
        """The tokens that a stream has reported, once it is over."""
        return relay.usage()

    def _explain(self, job: Job, refusal: Refusal) -> Refusal:
        """The engine's refusal, reworded for an OpenAI client."""
        return refusal

    def _doubt(self, status: int) -> bool:
        """Whether this status of a failed job means that the engine itself is in trouble."""
        return status in (502, 503, 504)

    # One attempt.

    async def _serve(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        content_type = job.content_type or JSON
        if content_type.partition(";")[0].strip().lower() == JSON:
            sent = await self._prepare(job, body)
        else:
            own = self._own[self._served(job).id]
            sent, content_type = await aside(body, partial(name_form, body, content_type, own))
        if job.endpoint == endpoints.CHAT.path:
            sink = Thoughts(sink)
        async with self._http.call("POST", job.endpoint, sent, content_type) as response:
            if len(sent) > LARGE:
                parsed.forget()
            if not response.succeeded:
                raise self._refused(job, response.status, await read_error(response))
            streams = await is_stream(response, job)
            if streams and not job.stream:
                return await self._collected(job, response, sink, sent)
            if not job.stream:
                return await self._whole(job, body, response, sink)
            if job.endpoint in HEARING and not streams:
                return await self._transcript_as_stream(job, body, response, sink)
            return self._usage(await self._relay(job, response, sink, sent))

    async def _prepare(self, job: Job, body: bytes) -> bytes:
        model = self._served(job)
        request = json_object(body)
        if not job.lenient:
            feature = endpoints.WORDS.get(job.endpoint, "")
            refuse_ignored(self.name, passed_over(model, feature, request), feature)
        changes = self._changes(job, request)
        await self._guard(job, request)
        try:
            return await parsed.written({**request, **changes}, body) if changes else body
        except orjson.JSONEncodeError:  # orjson reads 1,024 levels, but writes only 254
            raise Refusal("The body is nested too deeply.") from None

    def _served(self, job: Job) -> ServedModel:
        """The job's model. Raises Refusal if the engine lacks the model or the endpoint."""
        model = self._models.get(job.model)
        if model is None:
            what = f"{self.name} does not serve the model {job.model!r} any more."
            raise Refusal(what, param="model", code="model_not_found", status=404)
        feature = endpoints.WORDS.get(job.endpoint, "")
        if feature and feature not in model.features:
            what = f"The model {job.model!r} has no {job.endpoint} on the engine {self.name!r}."
            raise Refusal(what, param="model", code="unsupported_endpoint")
        return model

    async def _relay(
        self, job: Job, response: Response, sink: Sink, request: bytes, mend: Mend | None = None
    ) -> Relay:
        """`request`: the body that was sent."""
        api = endpoints.APIS.get(job.endpoint, PLAIN)
        relay = Relay(self.name, api, sink, mend)
        if not await is_stream(response, job):
            document = await self._document(job, response, sink, request)
            relay.told = api.usage(document)
            response = Given(api.as_stream(document, wants_usage(await piecewise.load(request))))
        await relay.run(response)
        return relay

    async def _document(self, job: Job, response: Response, sink: Sink, request: bytes) -> Document:
        """The whole answer of an engine that gave no stream, though it was asked for one."""
        kind, body = response.header("content-type", ""), await read_whole(response, sink)
        found, _ = await read_mended(self.name, job, request, kind, body)
        if found is None or not endpoints.APIS.get(job.endpoint, PLAIN).events_of(found, False):
            raise unlike(self.name, f"{kind!r}, but was asked for a stream", body)
        return found

    async def _collected(
        self, job: Job, response: Response, sink: Sink, request: bytes
    ) -> Usage | None:
        """Make one document of the stream of an engine that always streams."""
        collector = endpoints.APIS.get(job.endpoint, PLAIN).collector()
        if collector is None:
            raise unlike(self.name, "a stream", await read_error(response))
        out = Rewriting(Discard(sink), collector.add)
        usage = self._usage(await self._relay(job, response, out, request))
        await self._send_document(sink, collector.document)
        return usage

    async def _send_document(
        self, sink: Sink, document: Document | None, size: int | None = None
    ) -> None:
        """Send a document that was made of a stream of `size` bytes; None: of an unknown one."""
        if document is None:
            raise EngineFault(f"{self.name} ended its stream without an answer", away=True)
        sink.start(200, JSON)
        if isinstance(sink, ModelName):
            sink.put_into(document)
        # To weigh it would take as long as to write it.
        small = size is not None and size <= LARGE
        sink.data(orjson.dumps(document) if small else await piecewise_write.dump(document))
        await sink.settle()

    async def _transcript_as_stream(
        self, job: Job, body: bytes, response: Response, sink: Sink
    ) -> Usage | None:
        """Turn the document of an engine that ignores `stream` into a stream's events."""
        document = await read_whole(response, sink)
        found = await read(self.name, job, body, response.header("content-type", ""), document)
        text = document.decode(errors="replace").strip()
        sink.start(200, sse.CONTENT_TYPE)
        sink.data(media.transcript_of(found or {"text": text}))
        return media.API.usage(found) if found is not None else None

    async def _whole(self, job: Job, body: bytes, response: Response, sink: Sink) -> Usage | None:
        document = await read_whole(response, sink)
        large = len(document) > LARGE
        with piecewise_write.uncollected() if large else nullcontext():
            content_type = response.header("content-type", JSON)
            found, document = await read_mended(self.name, job, body, content_type, document)
            sink.start(200, content_type)
            sink.data(document)
            await sink.settle()
            usage = None if found is None else endpoints.APIS[job.endpoint].usage(found)
            if large:
                await piecewise_write.drop(found)
        return usage

    def _refused(self, job: Job, status: int, body: bytes) -> Exception:
        """A Refusal, for the client, if the request is at fault; else an EngineFault."""
        refusal = translate(status, body)
        if status in (401, 403):  # the worker's key, of which the client knows nothing
            why = f"{self.name} does not take this worker's key: {refusal.message}"
            return EngineFault(why, away=True)
        if status < 400 or status >= 500 or status in _BUSY or _LACKS.search(refusal.message):
            return EngineFault(f"{self.name}: {refusal.message}", away=self._doubt(status))
        return self._explain(job, refusal)

    # Small questions.

    def _choose(self, listed: Mapping[str, Any]) -> dict[str, str]:
        """The engine's name for each public name. A configured name that the engine does not know
        stands for its only model."""
        own = {name: self._find(name, listed) for name in self._config.models or listed}
        missing = [name for name, found in own.items() if not found]
        if missing:
            why = f"{self.name} has no model {missing[0]!r}; it has: {', '.join(listed) or 'none'}"
            raise EngineFault(why, away=True)
        return own

    def _find(self, name: str, listed: Mapping[str, Any]) -> str:
        if name in listed:
            return name
        return next(iter(listed)) if len(listed) == 1 else ""

    async def _found_endpoints(self) -> tuple[str, ...]:
        """The words for the engine's endpoints; found once for all of its models."""
        if not self._endpoints:
            found = [each.word for each in endpoints.ENDPOINTS if await self._has(each.path)]
            self._endpoints = tuple(found)
        if not self._endpoints:
            why = f"{self.name} has none of OpenAI's endpoints: is the URL right?"
            raise EngineFault(why, away=True)
        return self._endpoints

    async def _has(self, path: str) -> bool:
        """Whether the endpoint exists: it then complains about an empty request."""
        status, body = await self._http.post(path, {}, ASK_TIMEOUT)
        # A 404 about the model, which an empty request does not name, shows that the path exists.
        about_model = translate(status, body).code == "model_not_found"
        return status not in _ABSENT or about_model

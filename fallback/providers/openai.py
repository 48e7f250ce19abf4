"""A provider with OpenAI's API or a close copy; `kinds` holds all differences as data.

Bytes pass as they come. In requests, this module changes the model's name and the fields that
`request` names. In answers, it changes the model's name back to the one that the client asked for,
and `metering` leaves out usage that the client did not ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import ClientResponse

from fallback.cost.spent import NOTHING, Spent
from fallback.providers import forms, kinds, metering, secret
from fallback.providers.base import ProviderFault, Task
from fallback.providers.errors import fault, judge, reason_of
from fallback.providers.http import Body, Line, ProviderClient, beginning, closing, whole
from fallback.providers.kinds import Family
from fallback.providers.metering import EventFilter
from fallback.providers.request import Fit, continued
from fallback.providers.secret import KeyMissing, Secret
from schemas import settings
from schemas.api import endpoints, piecewise, sse
from schemas.api.base import NO_ANSWER, Api, wants_usage
from schemas.api.piecewise import LARGE
from schemas.api.piecewise_write import dump, joined
from schemas.nodes import Ignored
from workers.engines.base import Sink
from workers.engines.http.upstream import ERROR_LIMIT
from workers.engines.openai.refusal import JSON, Refusal
from workers.engines.openai.request_body import aside
from workers.engines.openai.stream import ModelName

log = structlog.get_logger("provider")

LARGEST_EVENT = 32 * 2**20
"""Most bytes of one event: a picture in base64 has a few million."""
_WHOLE_TOO = kinds.HEARING | {kinds.SPEECH}
"""Endpoints where a whole answer may come in place of a stream."""
_EMPTY = "sent an answer with nothing in it"
_NO_ANSWER = "sent something that is no answer"
_UNENDED = "ended its stream before its end was said"


class OpenAIProvider:
    """See `fallback.providers.base.Provider`."""

    def __init__(self, config: settings.Provider) -> None:
        self.name = config.name
        self.kind: str = config.kind
        self._config = config
        self._data = kinds.KINDS[config.kind]
        self.choices = self._data.choices
        url = config.url or self._data.url
        self._url = url.replace("{account_id}", config.account_id).rstrip("/")
        self.host = urlsplit(self._url).hostname or ""
        self._client = ProviderClient(config)
        self._secret = Secret("")
        self._families: dict[str, Family] = {}
        self._fits: dict[tuple[str, str], Fit] = {}

    async def open(self) -> None:
        self.renew()
        await self._client.open(self._data.headers)

    def renew(self) -> None:
        try:
            found = secret.read(self._config)
        except KeyMissing as missing:
            raise ProviderFault(str(missing), "key") from None
        if not found and not self._data.keyless:
            raise ProviderFault(f"{self.name} needs a key: set key_env or key_file", "key")
        self._secret = found
        self._client.renew(found)

    async def close(self) -> None:
        await self._client.close()

    def endpoints(self, model: str) -> frozenset[str]:
        return self._family(model).endpoints

    def ignores(self, model: str) -> tuple[Ignored, ...]:
        return (*self._family(model).refuses, *self._data.refuses)

    def resumes(self, model: str, endpoint: str) -> bool:
        if endpoint == kinds.CHAT and self._config.resumes != "never":
            return endpoint in self.endpoints(model)
        return endpoint in self._family(model).resumes

    def unfit(self, task: Task) -> str:
        begun = task.job.begun
        if begun and (begun.thoughts or not self.resumes(task.model, task.job.endpoint)):
            return f"{task.model} does not continue an answer"
        return self._fit(task).unfit(task)

    def lost_hints(self, task: Task) -> int:
        return self._fit(task).lost_hints(task.request)

    async def call(self, task: Task, sink: Sink) -> Spent:
        try:
            return await self._serve(task, sink)
        except Refusal as refusal:
            task.counter = None  # a refusal used nothing
            refusal.answer(sink)
            return NOTHING

    # One call.

    async def _serve(self, task: Task, sink: Sink) -> Spent:
        body, content_type = await self._body(task)
        async with self._ask(task, body, content_type) as response:
            if not 200 <= response.status < 300:
                raise await self._refused(response)
            line, typed = Line(response), response.content_type == sse.CONTENT_TYPE
            # Gateways send streams under other content types, too: the first bytes tell.
            first = b"" if typed else await response.content.readany()
            writes = task.job.endpoint in kinds.WRITING
            streams = typed or (writes and sse.begins(first))
            if streams and (task.job.stream or not writes):
                return await self._stream(task, response, sink, line, first)
            if task.job.stream and not writes and task.job.endpoint not in _WHOLE_TOO:
                raise self._failed("was asked for a stream and sent none")
            return await self._whole(task, response, sink, first, collect=streams)

    def _ask(
        self, task: Task, body: bytes, content_type: str
    ) -> AbstractAsyncContextManager[ClientResponse]:
        sent = Body(body, content_type)
        task.counter = metering.RequestCounter(task, sent, forms.length)
        key_header = self._fit(task).key_header
        return self._client.ask(self._address(task), sent, key_header, task.job.id)

    def _address(self, task: Task) -> str:
        return self._url + self._fit(task).path

    async def _body(self, task: Task) -> tuple[bytes, str]:
        """(body, content type) as they go to the provider. Raises Refusal."""
        changed, dropped = self._fit(task).changes(task)
        if not task.content_type.startswith(JSON):
            return await aside(task.body, partial(forms.rewrite, task, dropped))
        request = {name: value for name, value in task.request.items() if name not in dropped}
        if task.job.begun is not None and task.job.endpoint == kinds.CHAT:
            changed |= continued(request, self._config.resumes)
        try:
            sent = {**request, **changed}
            return await dump(sent) if len(task.body) > LARGE else orjson.dumps(sent), JSON
        except orjson.JSONEncodeError:  # orjson reads 1,024 levels, but writes only 254
            raise Refusal("The body is nested too deeply.") from None

    async def _refused(self, response: ClientResponse) -> Exception:
        body = await beginning(response, ERROR_LIMIT)
        return judge(self.name, response.status, response.headers, body, self._secret)

    async def _stream(
        self, task: Task, response: ClientResponse, sink: Sink, line: Line, first: bytes
    ) -> Spent:
        """`first`: what was read already."""
        counter = task.counter = self._counter(task)
        api = self._fit(task).api
        strip = api.asks_for_usage and not wants_usage(task.request)
        passing = EventFilter(self._named(sink, task), api, counter, self._blame, strip=strip)
        sink.start(200, sse.CONTENT_TYPE)
        await self._relay(response, api, passing, line, first)
        told = counter.told()
        # What only tells its usage is no answer.
        nothing = told is None and not passing.begun
        if (nothing or not passing.answered) and task.job.endpoint not in kinds.HEARING:
            raise self._failed(_EMPTY)
        return told or counter.spent()

    def _counter(self, task: Task) -> metering.StreamCounter:
        if task.job.endpoint in kinds.DRAWING:
            return metering.PictureCounter(task)
        seconds = forms.length(task) if task.job.endpoint in kinds.HEARING else 0.0
        return metering.TextCounter(task, self._data.by_event, seconds)

    async def _relay(
        self, response: ClientResponse, api: Api, sink: Sink, line: Line, first: bytes
    ) -> None:
        events = sse.Splitter(LARGEST_EVENT)
        try:
            while chunk := first or await response.content.readany():
                first = b""
                if found := events.feed(chunk):
                    sink.data(found)
                    if sse.end_of(found) >= 0 and api.ended(events):
                        # Not all servers close a stream behind its last event.
                        await closing(response)
                        return
                else:
                    sink.touch()
        except sse.TooLong as fault:
            raise self._failed(f"sent {fault}") from None
        if line.cut and not api.ended(events):
            raise self._failed("broke the connection")
        rest = api.rest(events)
        if rest.events:
            sink.data(rest.events)
        if not rest.whole:
            raise self._failed(_UNENDED)
        if not rest.said:
            log.warning("provider.end_not_said", provider=self.name)

    def _failed(self, what: str) -> ProviderFault:
        return ProviderFault(f"{self.name} {what}", "failed")

    def _blame(self, error: Mapping[str, Any]) -> ProviderFault:
        """The fault for an error object inside a stream, or in an answer with the status 200."""
        told = {**error, "message": self._secret.scrub(str(error.get("message") or error))}
        code = error.get("code")
        status = code if isinstance(code, int) and code >= 400 else 500
        return fault(self.name, status, told, reason_of(status, told) or "failed")

    async def _whole(
        self, task: Task, response: ClientResponse, sink: Sink, first: bytes, *, collect: bool
    ) -> Spent:
        """`collect`: the answer is a stream that nobody asked for."""
        pieces = [first]
        async for piece in whole(response):
            pieces.append(piece)
            sink.touch()
        body = await joined(pieces)
        content_type = response.headers.get("content-type", JSON)
        if collect:
            body, content_type = await self._collected(task, body), JSON
        spent, body, content_type = await self._read(task, body, content_type)
        if task.job.stream and task.job.endpoint in kinds.WRITING:
            usage = wants_usage(task.request)
            body = self._fit(task).api.as_stream(await piecewise.load(body), usage)
            content_type = sse.CONTENT_TYPE
        sink.start(200, content_type)
        self._named(sink, task).data(body)
        await sink.settle()
        return spent

    async def _collected(self, task: Task, body: bytes) -> bytes:
        """The document of a stream. Raises ProviderFault."""
        api, events = self._fit(task).api, sse.Splitter(LARGEST_EVENT)
        found, rest, collector = events.feed(body), api.rest(events), api.collector()
        assert collector is not None, "streams of texts have one"
        try:
            for event in map(sse.typed, sse.split(found + rest.events)):
                if error := api.failure(event):
                    raise self._blame(error)
                collector.add(event)
        except NO_ANSWER:
            raise self._failed(_NO_ANSWER) from None
        if not rest.whole:
            raise self._failed(_UNENDED)
        return await dump(collector.document)

    async def _read(self, task: Task, body: bytes, content_type: str) -> tuple[Spent, bytes, str]:
        """(what the call used, the answer, its content type). Raises ProviderFault for nonsense."""
        endpoint = task.job.endpoint
        if endpoint == kinds.SPEECH:
            if not body or content_type.startswith(("application/json", "text/")):
                raise self._failed(f"sent {content_type!r} for speech")
            return metering.spoken(task), body, content_type
        if endpoint in kinds.HEARING:
            return await forms.heard(task, body, content_type, self._document)
        found = await self._document(task, body)
        if endpoint in kinds.DRAWING:
            return metering.pictures(task, found, len(found["data"])), body, content_type
        spent = metering.document(task, found, body)
        if endpoint in kinds.WRITING and not (spent.told or self._fit(task).api.said.search(body)):
            raise self._failed(_EMPTY)
        return spent, body, content_type

    async def _document(self, task: Task, body: bytes) -> dict[str, Any]:
        """The answer's JSON object. Raises ProviderFault if it lacks what an answer holds."""
        found = await self._object(task, body)
        holds = endpoints.BY_PATH[task.job.endpoint].holds
        if holds is not None and (missing := holds.missing(found)):
            raise self._failed(f"sent no {missing}")
        return found

    async def _object(self, task: Task, body: bytes) -> dict[str, Any]:
        """The answer's JSON object. Raises ProviderFault, also for an error object."""
        try:
            found = await piecewise.load(body)
        except piecewise.NotJson:
            raise self._failed("sent half an answer, or none") from None
        except piecewise.TooMany as fault:
            raise self._failed(f"sent an answer of more than {fault}") from None
        if not isinstance(found, dict):
            raise self._failed(_NO_ANSWER)
        if error := self._fit(task).api.failure(found):
            raise self._blame(error)
        return found

    def _named(self, sink: Sink, task: Task) -> Sink:
        """A sink that puts the name that the client asked for in place of the model's name."""
        return ModelName(sink, task.job.asked) if self._fit(task).api.names_model else sink

    def _family(self, model: str) -> Family:
        family = self._families.get(model)
        if family is None:
            family = self._families[model] = self._data.family(model)
        return family

    def _fit(self, task: Task) -> Fit:
        key = task.model, task.job.endpoint
        fit = self._fits.get(key)
        if fit is None:
            fit = self._fits[key] = Fit(self._data, *key, self._config.limit)
        return fit

"""Answers a request with what is kept, or on its way for another one; else has it done, and keeps
the answer if it is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import access_log
from ingress.answer.headers import WARNING
from ingress.cache import asked, items, key
from ingress.cache.asked import Wish
from ingress.cache.digests import Digests
from ingress.cache.flight import Flight, Shared
from ingress.cache.items import Item
from ingress.cache.store import Entry, Store
from ingress.http.held import held_of
from ingress.http.protocol import BEGUN
from ingress.http.streamed import EventStream
from ingress.idempotency.recording import Recording
from ingress.idempotency.run import Run
from ingress.jobs.usage import UsageCounter
from ingress.models.catalog import Catalog
from ingress.request.large_body import has, shows
from schemas import metrics, multipart, subjects
from schemas.api import piecewise, piecewise_write, sse
from schemas.api.endpoints import EMBEDDINGS
from schemas.api.piecewise import LARGE
from schemas.bus import Bus
from schemas.errors import EngineFailed, NotKept
from schemas.frames import COST, NOTED, SERVED_BY
from schemas.settings import Settings

if TYPE_CHECKING:
    from ingress.endpoints.inference import Call

HEADER = f"{NOTED}cache"
"""What a client is told: hit, miss or bypass."""
OF_THEM = f"{NOTED}cached-items"
"""How many of the texts of a request were there already."""
HIT, MISS, BYPASS = "hit", "miss", "bypass"
MOST_SPLIT = 16 * 2**20
"""Bytes of an answer that is taken apart into items."""
JSON = "application/json"
SUCCESS = 200

P = ParamSpec("P")
T = TypeVar("T")
Respond = Callable[["Call"], Awaitable[Response]]
Entries = Iterable[tuple[str, str, bytes]]
"""What is kept of an answer: name, content type and body of each."""
Made = Callable[[Recording], Awaitable[Entries]]
_Place = tuple[str, str, bool]


class Question(NamedTuple):
    """`digests`: of the weights whose answers will do. `respond`: has it done. `began`: when it was
    asked, in monotonic seconds."""

    call: Call
    respond: Respond
    wish: Wish
    digests: frozenset[str]
    began: float


class Cache:
    def __init__(self, config: Settings, bus: Bus, catalog: Catalog, usage: UsageCounter) -> None:
        self._config = config.cache
        self._keepalive = config.ingress.keepalive
        self._most = config.ingress.max_answer
        self._store = Store(bus, config.cache, config.nats.replicas)
        self._digests = Digests(catalog)
        self._usage = usage
        self._flights: dict[_Place, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, call: Call, respond: Respond) -> Response:
        """Raises HeadraceError."""
        request = call.caller.request
        wish = asked.wish(request.headers.get("cache-control", ""))
        begun = BEGUN in request.scope["state"]
        # What a part of a message leads to may be another thing by now.
        leads = not call.endpoint.shape.is_text(call.asked) and await has(call.body, b'"http')
        if begun or leads or not wish.writes or not asked.repeats(call.endpoint, call.asked):
            if wish.only:
                raise _not_kept()
            return _marked(await respond(call), BYPASS)
        digests = self._digests.of(call.plan)
        question = Question(call, respond, wish, digests, time.monotonic())
        if call.endpoint is EMBEDDINGS and not await shows(call.body, key.may_be_odd):
            texts, rest = items.texts(call.asked), items.rest(call.asked)
            if texts is not None and piecewise_write.is_small(rest):
                return await self._by_items(question, texts, rest)
        return await self._as_one(question)

    async def close(self) -> None:
        """Stop what nobody listens to any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # One answer.

    async def _as_one(self, question: Question) -> Response:
        call = question.call
        name = await self._name(call)
        if (entry := await self._kept(name, question)) is not None:
            return self._hit(question, entry.content_type, entry.body, self._store.age(entry))
        if question.wish.only:
            raise _not_kept()

        async def entries(recording: Recording) -> Entries:
            assert recording.head is not None
            content_type = recording.head.headers.get("content-type", "")
            return [(name, content_type, await piecewise_write.joined(recording.parts))]

        return await self._follow(name, question, entries)

    async def _kept(self, name: str, question: Question) -> Entry | None:
        """The entry that does for the request. The broker is not asked for what is on its way."""
        if not question.wish.reads or not question.digests:
            return None
        entry = self._store.here(name)
        if entry is None and _place(name, question.call) not in self._flights:
            entry = await self._store.find(name)
        return entry if self._does(entry, question) else None

    def _does(self, entry: Entry | None, question: Question) -> bool:
        if entry is None or entry.digest not in question.digests:
            return False
        most = question.wish.age
        return most is None or self._store.age(entry) <= most

    async def _name(self, call: Call) -> str:
        return await _aside(call.body, _name, self._terms(call), call)

    def _terms(self, call: Call) -> key.Terms:
        plan = call.plan
        return key.Terms(
            "" if self._config.shared else call.caller.who.account,
            call.endpoint.path,
            plan.model,
            plan.name,
            plan.route,
            plan.reach,
            "" if plan.pin is None else repr(plan.pin),
            call.content_type.partition(";")[0].strip().lower(),
            call.stream,
            call.lenient,
        )

    # Embeddings.

    async def _by_items(
        self, question: Question, texts: list[Any], rest: dict[str, Any]
    ) -> Response:
        """`rest`: the request without its `texts`."""
        call = question.call
        base, names = key.Name(self._terms(call), b"item", key.plainly(rest)), list[str]()
        await piecewise.in_turns(base.each(texts, names))
        kept, age = dict[str, Item](), 0.0
        if question.wish.reads and question.digests:
            found = await self._store.find_all(names)
            does = {name: entry for name, entry in found.items() if self._does(entry, question)}
            bodies = ((name, entry.body) for name, entry in does.items())
            await piecewise.in_turns(items.unpack_all(bodies, kept))
            age = max((self._store.age(does[name]) for name in kept), default=0.0)
        lacking = {n: text for n, text in zip(names, texts, strict=True) if n not in kept}
        if not lacking:
            body = await self._together([kept[name] for name in names])
            return self._hit(question, JSON, body, age)
        if question.wish.only:
            raise _not_kept()
        if len(lacking) == len(texts):
            return await self._computed(question, base, lacking)
        some = {**call.asked, items.INPUT: [*lacking.values()]}
        body = await piecewise_write.dump(some)
        part = question._replace(call=replace(call, asked=some, body=body))
        response = await self._computed(part, base, lacking)
        return await self._completed(response, names, kept, lacking)

    async def _completed(
        self,
        response: Response,
        names: list[str],
        kept: Mapping[str, Item],
        lacking: Mapping[str, Any],
    ) -> Response:
        """The answer to all of a request, from one to the texts that were lacking. Raises
        EngineFailed."""
        if response.status_code != SUCCESS:
            return response
        made = await _split(lacking, bytes(response.body))
        if made is None:
            why = "The engine's answer is none: it has not one vector for each text."
            raise EngineFailed(why, source="engine")
        found = {**kept, **dict(zip(lacking, made, strict=True))}
        headers = {name: v for name, v in response.headers.items() if name != "content-length"}
        headers[OF_THEM] = str(sum(name in kept for name in names))
        return Response(await self._together([found[name] for name in names]), SUCCESS, headers)

    async def _together(self, found: list[Item]) -> bytes:
        """The answer of these items, which may repeat. Raises EngineFailed."""
        if sum(len(item.entry) for item in found) > self._most:
            raise EngineFailed(f"The answer is larger than {self._most} bytes, the limit here.")
        return await piecewise_write.collected(items.together(found))

    async def _computed(
        self, question: Question, base: key.Name, texts: Mapping[str, Any]
    ) -> Response:
        """The answer to a request for these texts, by their names."""

        async def entries(recording: Recording) -> Entries:
            if sum(map(len, recording.parts)) > MOST_SPLIT:
                return []
            found = await _split(texts, await piecewise_write.joined(recording.parts)) or []
            return ((n, "", items.pack(item)) for n, item in zip(texts, found, strict=bool(found)))

        return await self._follow(base.of((b"all", *map(str.encode, texts))), question, entries)

    # What is done, for all who ask for it.

    async def _follow(self, name: str, question: Question, entries: Made) -> Response:
        call, place = question.call, _place(name, question.call)
        flight = self._flights.get(place) if question.wish.reads else None
        if flight is None:
            # It may have the body for longer than the connection that it came by.
            await held_of(call.caller.request).cover(len(call.body))
            if question.wish.reads:  # another may have begun one meanwhile
                flight = self._flights.get(place)
        leads = flight is None
        if flight is None:
            flight = self._begun(place, question, entries)

        def shared() -> None:
            metrics.CACHE.labels("shared").inc()
            self._note(question, "shared")

        if (permit := call.permit) is not None:  # as long as it streams, too
            permit.enter(())
        left = _nothing if permit is None else permit.leave
        following = Shared(call.caller.request, flight, call.endpoint.api, shared, left)
        response = await following.response(self._keepalive)
        if leads:
            return _marked(response, MISS if question.digests else BYPASS)
        if response.status_code < 400 and permit is not None:
            permit.answered()
        response.headers["age"] = "0"
        return _marked(response, HIT, counted=True)

    def _begun(self, place: _Place, question: Question, entries: Made) -> Flight:
        call, doing = question.call, _Doing(question)

        async def keep(recording: Recording) -> None:
            digest = self._digest(doing.call)
            assert recording.head is not None
            if digest not in question.digests or WARNING in recording.head.headers:
                return
            made, kept = time.time(), await entries(recording)
            found = {name: Entry(digest, kind, made, body) for name, kind, body in kept}
            for name, entry in found.items():  # all of them here, before others are waited for
                self._store.keep(name, entry)
            for name, entry in found.items():
                await self._store.share(name, entry)
                await asyncio.sleep(0)  # there may be thousands

        def over() -> None:
            if self._flights.get(place) is flight:
                del self._flights[place]

        run = Run(call.caller.request, b"", doing.respond)
        flight = Flight(run, call.endpoint.api, keep, over)
        if question.wish.reads:
            self._flights[place] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        if (permit := call.permit) is not None:  # which its client gives back when it leaves
            permit.enter(())
            flight.task.add_done_callback(lambda _: permit.leave())
        return flight

    def _digest(self, call: Call) -> str:
        """Of the weights that answered; "" if several did."""
        found = {self._digests.by(ticket) for ticket in call.tickets}
        return found.pop() if len(found) == 1 else ""

    # What is there.

    def _hit(self, question: Question, content_type: str, body: bytes, age: float) -> Response:
        call = question.call
        headers = {
            **dict.fromkeys(call.endpoint.api.id_headers, call.caller.request.state.id),
            SERVED_BY: "cache",
            COST: "0",
            HEADER: HIT,
            "age": str(int(age)),
        }
        if call.permit is not None:
            call.permit.answered()
        metrics.CACHE.labels(HIT).inc()
        self._note(question, HIT)
        if content_type.startswith(sse.CONTENT_TYPE):
            return EventStream(_once(body), headers=headers)
        return Response(body, SUCCESS, {**headers, "content-type": content_type})

    def _note(self, question: Question, result: str) -> None:
        """Count a request that nobody worked for, and log it."""
        call = question.call
        who, plan, endpoint = call.caller.who, call.plan, call.endpoint
        self._usage.kept(who.account, who.key, plan.name)
        model = metrics.model_label(plan.model)
        metrics.REQUESTS.labels(endpoint.path, model, str(SUCCESS)).inc()
        line = {
            "id": call.caller.request.state.id,
            "key": who.key,
            "asked": plan.name,
            "model": plan.model,
            "lane": subjects.lane_kind(call.lane) if plan.pin is None else subjects.PINNED,
            "endpoint": endpoint.path,
            "stream": call.stream,
            "status": SUCCESS,
            "cache": result,
        }
        ended = access_log.record_kept(line, who.account, question.began)
        call.caller.here.dispatch.ended.append(ended)


class _Doing:
    """Does what is asked for, by a request that lives as long as it."""

    def __init__(self, question: Question) -> None:
        self.call = question.call
        self._respond = question.respond

    async def respond(self, request: Request) -> Response:
        call = self.call
        self.call = replace(call, caller=replace(call.caller, request=request))
        return await self._respond(self.call)


async def _aside(data: bytes, do: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """What `do` makes; in a thread, if there is much of `data`."""
    if len(data) > LARGE:
        return await asyncio.to_thread(do, *args, **more)
    return do(*args, **more)


async def _split(texts: Mapping[str, Any], body: bytes) -> list[Item] | None:
    split = items.Split([*texts.values()], await piecewise.load(body))
    if len(body) <= LARGE:  # it is kept by the time that its client asks again
        for _ in split.pieces():
            pass
    else:
        await piecewise.in_turns(split.pieces())
    return split.found


def _place(name: str, call: Call) -> _Place:
    """Where a run is found by who may join it: of one account, also where all share what is kept.
    Its keys may end the run, and it pays. A batch job may wait for all others: who is in a hurry
    does not wait for it."""
    who = call.caller.who
    return name, who.account, call.lane == subjects.BATCH


def _name(terms: key.Terms, call: Call) -> str:
    body: Iterable[bytes]
    if call.endpoint.form is not None:
        body = key.of_form(multipart.parse(call.body, call.content_type))
    elif len(call.body) > LARGE:
        body = key.as_it_is(call.body)
    else:
        body = key.of_json(call.asked, call.body)
    return key.name(terms, body)


def _marked(response: Response, result: str, *, counted: bool = False) -> Response:
    if not counted:
        metrics.CACHE.labels(result).inc()
    response.headers[HEADER] = result
    return response


def _nothing() -> None:
    """Where no limit counts who is here."""


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _not_kept() -> NotKept:
    return NotKept("No answer to this request is kept, and the request wants no other one.")

"""One request for inference, from its key to its answer: the same steps for every endpoint.

An endpoint is data, a line of `schemas.api.endpoints`. The steps: look up the key, read the body,
parse it, find the model, check what the model can do with the request. Then submit one job, or
several if `n` choices are wanted of an engine that gives one at a time, and pass on the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import headers, tier
from ingress.answer.fanout import bodies
from ingress.answer.headers import warn
from ingress.answer.respond import Exchange
from ingress.answer.schema_checker import Asker
from ingress.answer.schema_gate import Misfit, SchemaGate
from ingress.context import Context, context
from ingress.http.auth import Principal
from ingress.http.body import Head, need_json, read_body
from ingress.http.held import HELD, OWNER, Held, held_of
from ingress.http.protocol import BEGUN
from ingress.jobs.affine import LONGEST, Trail
from ingress.jobs.order import Order
from ingress.jobs.spilled import Body
from ingress.jobs.state import NOBODY, Resumers
from ingress.jobs.ticket import Ticket
from ingress.limits.estimate import bounded
from ingress.limits.permit import Permit
from ingress.limits.within import within
from ingress.models import fields, locality, pins
from ingress.models.locality import ANY
from ingress.models.routes import Plan
from ingress.request import large_body
from ingress.request.forms import Form, checked, read_form
from ingress.traced import SERVED
from schemas import subjects
from schemas.api import media, piecewise
from schemas.api.base import NO_ANSWER, Api
from schemas.api.endpoints import Endpoint
from schemas.api.json_format import Formats
from schemas.api.narrow import narrowed
from schemas.api.piecewise_write import dump
from schemas.api.shape import Shape
from schemas.errors import (
    EngineFailed,
    HeadraceError,
    InsufficientScope,
    InvalidRequest,
    InvalidStructuredOutput,
    ShuttingDown,
)
from schemas.nodes import Ignored

HOLD_BACK_HEADER = "x-headrace-hold-back"
JSON = "application/json"
SUCCESS = 200
CACHE_HEADER = "x-headrace-cache"
_CHANCE = frozenset({"temperature", "seed"})
"""Fields with which a request may ask for an answer without chance."""
_CHOICES, _NONE = frozenset({"n"}), frozenset[str]()
_TIER = frozenset({tier.FIELD})
_STREAMS = (True, "sse")
"""Values with which a request asks for a stream."""
_COPIES = 4
"""The requests made of one request for `n` choices may have as many times `max_body` bytes."""
_NO_BATCH = "service_tier has no effect: single nodes have no batch lane"
_UNFIT = "The model's answer was not what was asked for"


@dataclass(slots=True)
class Caller:
    """A request whose key is known. Not frozen, for the same reason as `Call`."""

    request: Request
    here: Context
    who: Principal


@dataclass(slots=True)
class Call:
    """One checked request on its way. Not frozen: that would cost each request 2 µs."""

    caller: Caller
    endpoint: Endpoint
    asked: dict[str, Any]
    body: bytes
    content_type: str
    plan: Plan
    stream: bool
    lenient: bool
    flex: bool
    permit: Permit | None = None
    tickets: Sequence[Ticket] = ()
    """Of the jobs that were submitted last."""

    @property
    def lane(self) -> str:
        """Of its jobs, unless they are for certain nodes."""
        batch = self.flex or self.caller.who.policy.lane == subjects.BATCH
        return subjects.BATCH if batch else subjects.INTERACTIVE

    async def answer(self, gate: SchemaGate | None = None) -> Response:
        """Submit the request and wait for the head of its answer. `gate`: judges its stream.
        Raises the error with which the request failed."""
        here, request, api = self.caller.here, self.caller.request, self.endpoint.api
        room = here.config.ingress.max_buffer // 2 if self.stream and self._is_held() else 0
        self.tickets = tickets = await self._submit(gate)
        more = api, gate, room, self.permit
        exchange = Exchange(request, here.dispatch, tickets, self.plan.name, *more)
        return await exchange.answer(here.config.ingress.keepalive)

    async def _submit(self, gate: SchemaGate | None) -> list[Ticket]:
        """Submit the jobs of this request. It is theirs from here on, unless it is asked for once
        more: this call forgets it, so that it can be in a file while it waits."""
        here, request, copies = self.caller.here, self.caller.request, self._copies()
        if copies > 1:
            sent = await bodies(self.asked, copies, _COPIES * here.config.ingress.max_body)
            await held_of(request).cover(sum(map(len, {id(each): each for each in sent}.values())))
            return await here.dispatch.submit_all([self._order(body) for body in sent])
        body: Body = self.body
        trail, affine = None, here.dispatch.affine
        if self.plan.model in affine.shared and affine.least <= len(body) <= LONGEST:
            trail = affine.trail(self.endpoint.path, self.asked, self.plan.model)
        order = self._order(body, self._resumers(gate) if self.stream else NOBODY, trail)
        if order.resumers.exist:
            order.outline = self.endpoint.api.outline(self.asked)
        held: Held | None = request.scope["state"].get(HELD)  # None: the body is a small one
        if held is None:
            self.asked, self.body = {}, b""
        elif not held.kept:
            del body
            self.asked, self.body, order.body = {}, b"", await held.spill(self.body)
        return [await here.dispatch.submit(order)]

    def _is_held(self) -> bool:
        """Whether the stream is held back to its end, so that it can begin anew. It is if that was
        asked for, unless others can go on from whatever it may say."""
        wish = self.caller.request.headers.get(HOLD_BACK_HEADER, "").lower() == "true"
        if not (wish or self.plan.hold_back):
            return False
        plan, asked = self.plan, self.asked
        thinks = "reasoning" in plan.ability.can and not plan.thoughts_resume
        alone = asked.get("tools") or thinks
        return bool(alone) or not (plan.workers_resume and self.endpoint.api.may_continue(asked))

    def _copies(self) -> int:
        """How many jobs this request needs."""
        choices = self.asked.get("n") if self.endpoint.choices else None
        if choices is None or choices == 1:
            return 1
        return 1 if choices <= self.plan.ability.choices else int(choices)

    def _order(self, body: Body, resumers: Resumers = NOBODY, trail: Trail | None = None) -> Order:
        plan, who, path = self.plan, self.caller.who, self.endpoint.path
        about = path, self.stream, body, self.content_type, who.account, who.key, self.lenient
        begun = self.caller.request.scope["state"].get(BEGUN, b"")
        weight = who.account_weight or who.policy.weight
        return Order(
            plan, *about, resumers, begun=begun, weight=weight, lane=self.lane, trail=trail
        )

    def _resumers(self, gate: SchemaGate | None) -> Resumers:
        """Who may continue the stream if it breaks. A text that was begun under a format is
        continued without the format, and its gate judges the whole. No provider is paid for such a
        text."""
        plan = self.plan
        if gate is not None and BEGUN in self.caller.request.scope["state"]:
            return NOBODY  # the gate has not heard the beginning
        providers = plan.resumes and plan.reach == ANY and gate is None
        thoughts = plan.thoughts_resume and not plan.paid
        return Resumers(plan.workers_resume, providers, thoughts)


async def serve(request: Request, endpoint: Endpoint) -> Response:
    """Answer a request at `endpoint`. Raises HeadraceError."""
    caller = admit(request)
    if endpoint.form is None:  # no name here has the request, so that it can be let go
        return await answer(caller, endpoint, *await read_json(caller, endpoint.shape))
    return await answer(caller, endpoint, *await _read_form(caller, endpoint, endpoint.form))


async def _read_form(
    caller: Caller, endpoint: Endpoint, known: media.Form
) -> tuple[dict[str, Any], bytes, str]:
    form = await form_of(caller)
    for name in sorted(known.files):
        form.file(name)
    asked, form = await checked(form, known, endpoint.shape)
    return asked, form.body, form.content_type


async def form_of(caller: Caller) -> Form:
    """The form in a request. Raises HeadraceError."""
    here = caller.here
    take = partial(here.parsing.run_aside, caller.who.key)
    return await read_form(caller.request, here.config.ingress.max_body, take)


def admit(request: Request) -> Caller:
    """Find out who asks a model. Raises Unauthorized, InsufficientScope, ShuttingDown."""
    caller = recognize(request)
    caller.who.need_any_endpoint()  # before a body is read
    return caller


def recognize(request: Request) -> Caller:
    """Find out who asks. Raises Unauthorized, ShuttingDown."""
    here = context(request)
    caller = Caller(request, here, here.keys.who(request))
    if here.draining:
        raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
    request.scope["state"][OWNER] = here.bodies, caller.who.key
    return caller


async def read_json(caller: Caller, shape: Shape) -> tuple[dict[str, Any], bytes]:
    """The checked request, and its bytes. Raises HeadraceError."""
    need_json(caller.request)
    here = caller.here
    body = await read_body(caller.request, here.config.ingress.max_body)
    return await checked_body(caller, shape, body)


async def checked_body(caller: Caller, shape: Shape, body: bytes) -> tuple[dict[str, Any], bytes]:
    """What `shape.read` gives or raises; a large body has its turn, and leaves others theirs."""
    if len(body) <= large_body.FEW or not large_body.is_large(body):
        return shape.read(body)
    async with caller.here.parsing.turn(caller.who.key):
        return await large_body.read(shape, body)


async def answer(
    caller: Caller,
    endpoint: Endpoint,
    asked: dict[str, Any],
    body: bytes,
    content_type: str = JSON,
) -> Response:
    """The engine's answer to `body`; `asked` is `body` parsed and checked. Raises HeadraceError.

    A field that would have no effect is refused by name. If it is a hint, or if client, key, route
    or server are lenient, the answer has a warning instead.
    """
    request = caller.request
    caller.who.need_endpoint(endpoint.path)
    plan = plan_of(caller, asked.get("model"), endpoint)
    if (served := request.scope["state"].get(SERVED)) is not None:
        served.model, served.endpoint = plan.name, endpoint
    bound, limited = "", caller.who.is_limited
    if limited and (most := caller.who.most_tokens) is not None:
        asked, bound = bounded(most, plan, endpoint, asked)
        body = await dump(asked) if bound else body
    wanted = {**asked, **endpoint.means} if endpoint.means else asked
    ignored, strange = list[Ignored](), ""
    flex = asked.get(tier.FIELD) == tier.FLEX and tier.is_known(endpoint)
    lenient = plan.is_lenient(request.headers, caller.who.policy)
    able = plan.ability
    if signed := able.sign != b"":
        small = len(body) <= piecewise.LARGE
        signed = able.sign in body if small else await large_body.has(body, able.sign)
    if not plan.honours(wanted, signed):
        taken = (_CHOICES if endpoint.choices else _NONE) | (_TIER if flex else _NONE)
        ignored, strange = able.lost(plan.model, wanted, taken, signed), able.strange(asked)
        left, foreign = able.without_server_tools(asked, ignored)
        ignored += foreign
        ignored = ignored if lenient else fields.refuse(plan.name, ignored, able.feature)
        if foreign:
            asked, body = left, await dump(left)
    streams = endpoint.stream != "" and asked.get(endpoint.stream) in _STREAMS
    # An engine that ignores `stream` gives a document.
    stream = streams and all(each.field != "stream" for each in ignored)
    lenient = lenient and bool(ignored or strange)
    call = Call(caller, endpoint, asked, body, content_type, plan, stream, lenient, flex)
    left = asked = wanted = {}  # as below
    del body
    if limited:
        response = await within(call, partial(_respond, call))
    else:
        response = await _respond(call)
    if flex and plan.pin is not None:
        warn(response, _NO_BATCH)
    elif flex and not plan.paid:
        await tier.tell(response, endpoint)
    if ignored or strange:
        warn(response, fields.warning(ignored, strange))
    if bound:
        warn(response, bound)
    return response


def plan_of(caller: Caller, model: str | None, endpoint: Endpoint) -> Plan:
    """How a request is served that names this model, or none. Raises HeadraceError."""
    headers, policy, pin = caller.request.headers, caller.who.policy, None
    names = headers.first if isinstance(headers, Head) else [name for name, _ in headers.raw]
    if policy.nodes or not pins.HEADERS.isdisjoint(names):  # nearly no request has one
        pin = pins.of(headers.raw, policy.nodes)
        if policy.lane == subjects.BATCH:
            why = "This key is bound to the batch lane, which single nodes do not have."
            raise InsufficientScope(why, param=pins.HEADER)
    wish = headers.get(locality.HEADER, "")
    return caller.here.routes.plan(model, endpoint, wish, policy.local, policy.models, pin)


async def _respond(call: Call) -> Response:
    """The answer to a request of which all fields are known to be heeded. Raises HeadraceError."""
    caller, endpoint, asked = call.caller, call.endpoint, call.asked
    if not endpoint.shape.is_text(asked):  # most requests are, and need no look for pictures
        media, served = caller.here.media, "" if call.plan.paid else call.plan.model
        call.body = await media.resolve(caller.request, endpoint, asked, call.body, served)
    formed = not endpoint.api.format_fields.isdisjoint(asked)
    formats = endpoint.api.json_formats(asked) if formed else None
    if (cache := caller.here.cache) is not None and _may_be_kept(call):
        return await cache.answer(call, partial(_made, formats=formats))
    del asked  # no name keeps the request while it waits
    return await _made(call, formats)


def _may_be_kept(call: Call) -> bool:
    """Whether a kept answer is asked for, by the request itself, its route or the settings."""
    kept = call.plan.cache
    if kept is False:
        return False
    if said := call.caller.request.headers.get(CACHE_HEADER):
        return said.lower() == "on"
    wanted = bool(kept) or call.caller.here.config.cache.use == "on"
    return wanted and (call.endpoint.steady or not _CHANCE.isdisjoint(call.asked))


async def _made(call: Call, formats: Formats | None) -> Response:
    """The answer of whoever does the job. `formats`: what it has to fit. Raises HeadraceError."""
    return await (call.answer() if formats is None else _structured(call, formats))


async def _structured(call: Call, formats: Formats) -> Response:
    """The answer to a request whose answer must fit schemas, which are checked first. If a document
    does not fit, it is asked for once more: the model is told why, and held to narrower schemas. A
    stream cannot be taken back, so it ends with the error. Raises InvalidRequest,
    InvalidStructuredOutput."""
    here, api = call.caller.here, call.endpoint.api
    by = asyncio.get_running_loop().time() + call.plan.total
    asker = Asker(call.caller.who.key, by)
    param, why = await here.schema_checker.fault_of(formats, asker)
    if why:
        raise InvalidRequest(f"Invalid schema for {param!r}: {why}.", param=param)
    misfit = partial(here.schema_checker.misfit, formats, asker=asker)
    if call.stream:
        parts = api.finished_in_stream(here.config.ingress.max_answer)
        return await call.answer(SchemaGate(misfit, parts))
    held_of(call.caller.request).kept = True  # it may be asked for once more
    response = await call.answer()
    if not (why := await _unfit(response, api, misfit)):
        return response
    made = headers.joined([response.headers])
    said = await piecewise.load(bytes(response.body))
    again = api.objected({**call.asked}, said, why)
    call.body = await dump(narrowed(again, formats))
    call.asked = await piecewise.load(call.body)
    try:
        return await _again(call, misfit, made, why)
    except HeadraceError as error:
        error.told = error.told or made
        raise


async def _again(call: Call, misfit: Misfit, made: Mapping[str, str], first: str) -> Response:
    """The second answer. `made`: who gave the first one, at what cost; `first`: its fault."""
    response = await call.answer()
    response.headers.update(both := headers.joined([made, response.headers]))
    if response.status_code == InvalidRequest.status:  # it is ours: it may be too long by now
        raise InvalidStructuredOutput(f"{_UNFIT}: {first}.", told=both)
    if why := await _unfit(response, call.endpoint.api, misfit):
        raise InvalidStructuredOutput(f"{_UNFIT}, twice: {why}.", told=both)
    if response.status_code == SUCCESS:
        told = "the first answer did not fit, and this is the one to a request that says so"
        warn(response, told)
    return response


async def _unfit(response: Response, api: Api, misfit: Misfit) -> str:
    """What is wrong with an answer, or "". A refusal has nothing to judge."""
    if response.status_code != SUCCESS:
        return ""
    try:
        parts = list(api.finished(await piecewise.load(bytes(response.body))))
        if not all(isinstance(part.text, str | None) for part in parts):
            raise TypeError
    except NO_ANSWER as fault:
        why = f"The engine's answer is none: {type(fault).__name__}."
        raise EngineFailed(why, source="engine") from None
    return await misfit(parts)

"""What all endpoints of texts have in common, from the key to the answer.

An endpoint is data, a line of `schemas.api.endpoints`. In their order: who asks, whether the
body may be read, what it says, which model it means, what that model can do with it, and then one
job (or several, for `n` choices of an engine that gives one), whose answer is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import headers, schema
from ingress.answer.fanout import FanOut, bodies, seeds
from ingress.answer.respond import Exchange
from ingress.answer.schema import Wanted
from ingress.answer.schema_stream import Held, Judge
from ingress.context import Context, context, principal
from ingress.http.auth import Principal
from ingress.http.body import need_json, read_body
from ingress.jobs import resume
from ingress.jobs.dispatch import Order
from ingress.models import fields, locality
from ingress.models.locality import ANY
from ingress.models.routes import Plan
from schemas.api.endpoints import Endpoint
from schemas.errors import HeadraceError, InvalidStructuredOutput, ShuttingDown
from schemas.jobs import ASKED, LENIENT
from schemas.nodes import Ignored

LENIENT_HEADER = "x-headrace-lenient"
WARNING_HEADER = "x-headrace-warning"
JSON = "application/json"
_CHOICES = frozenset({"n"})
_COPIES = 4
"""How many of the largest requests all that is made of one may be."""
_UNFIT = "The model's answer was not what was asked for"


@dataclass(slots=True)
class Call:
    """One checked request on its way. Not frozen, which would take 2 µs of each request."""

    request: Request
    here: Context
    endpoint: Endpoint
    asked: dict[str, Any]
    body: bytes
    plan: Plan
    who: Principal
    stream: bool
    ignored: list[Ignored]

    async def answer(self, held: Held | None = None) -> Response:
        """Submit it and wait for the head. `held`: judges its stream. Raises what became of it."""
        here, api = self.here, self.endpoint.api
        copies = self._copies()
        if copies > 1:
            room = _COPIES * here.config.ingress.max_body
            orders = [self._order(body) for body in bodies(self.asked, copies, room)]
            tickets = await here.dispatch.submit_all(orders)
            name = self.plan.name
            many = FanOut(self.request, here.dispatch, tickets, name, api, held)
            return await many.answer(here.config.ingress.keepalive)
        ticket = await here.dispatch.submit(self._order(self.body))
        one = Exchange(self.request, here.dispatch, ticket, self.plan.name, api, held)
        return await one.answer(here.config.ingress.keepalive)

    def _copies(self) -> int:
        """Jobs for this request."""
        choices = self.asked.get("n") if self.endpoint.choices else None
        if choices is None or choices == 1:
            return 1
        plan = self.plan
        able = self.here.fields.ability(plan.model, self.endpoint.word, plan.paid).choices
        return 1 if choices <= able else int(choices)

    def _order(self, body: bytes) -> Order:
        plan, who = self.plan, self.who
        tags = () if plan.name == plan.model else ((ASKED, plan.name),)
        if self.ignored:
            tags = (*tags, LENIENT)
        path = self.endpoint.path
        return Order(
            plan, path, self.stream, body, JSON, who.account, who.key, tags, self._splices()
        )

    def _splices(self) -> bool:
        """Whether its stream, if it breaks, may be continued by a provider."""
        plan = self.plan
        able = self.stream and plan.reach == ANY and plan.resumes
        return able and resume.fits(self.endpoint.path, self.asked)


async def serve(request: Request, endpoint: Endpoint) -> Response:
    """Raises HeadraceError."""
    here = context(request)
    who = principal(request)
    if here.draining:
        raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
    need_json(request)
    body = await read_body(request, here.config.ingress.max_body)
    asked = endpoint.shape.read(body)
    wish = request.headers.get(locality.HEADER, "")
    plan = here.routes.plan(asked.get("model"), endpoint.word, wish, who.local)
    taken = _CHOICES if endpoint.choices else frozenset[str]()
    ignored = here.fields.check(plan.model, endpoint.word, asked, taken, plan.paid)
    if ignored and request.headers.get(LENIENT_HEADER, "").lower() != "true":
        fields.refuse(plan.name, ignored)
        ignored = []  # the rest is tried, and the worker sees whether it was heeded
    strange = here.fields.strange(plan.model, endpoint.word, asked, plan.paid)
    wanted = schema.wanted(endpoint, asked)
    served = "" if plan.paid else plan.model
    body = await here.media.resolve(request, endpoint.path, asked, body, served)
    stream = endpoint.streams and bool(asked.get("stream"))
    call = Call(request, here, endpoint, asked, body, plan, who, stream, ignored)
    response = await (call.answer() if wanted is None else _structured(call, wanted))
    if ignored or strange:
        _warn(response, fields.warning(ignored, strange))
    return response


def _warn(response: Response, text: str) -> None:
    before = response.headers.get(WARNING_HEADER)
    response.headers[WARNING_HEADER] = f"{before}; {text}" if before else text


async def _structured(call: Call, wanted: Wanted) -> Response:
    """The schema is checked first. An answer that does not fit is asked for once more, at
    temperature 0 too: another engine may round otherwise. What was streamed cannot be taken back,
    so that a stream ends with the error. Raises InvalidRequest, InvalidStructuredOutput."""
    judge = call.here.judge
    if wanted.schema is not None and (why := await judge.check(wanted.schema)):
        raise schema.refusal(wanted, why)

    async def misfit(document: Any) -> str:
        return await _misfit(call, wanted, document)

    if call.stream:
        return await call.answer(Held(misfit, call.here.config.ingress.max_answer))
    response = await call.answer()
    if response.status_code != 200 or not await misfit(orjson.loads(response.body)):
        return response
    made = headers.joined([response.headers])
    try:
        return await _again(call, misfit, made)
    except HeadraceError as error:
        error.told = error.told or made
        raise


async def _again(call: Call, misfit: Judge, made: Mapping[str, str]) -> Response:
    """The second answer. A seed would make it the same as the first: it gets the one after those
    that were used, and the client is told. `made`: who gave the first, and what it cost."""
    told = ""
    seed, used = call.asked.get("seed"), call.asked.get("n") or 1
    if isinstance(seed, int) and (other := seeds(seed, used + 1)[-1]) != seed:
        told = f"what came with seed {seed} did not fit, and this came with {other}"
        call.asked = {**call.asked, "seed": other}
        call.body = orjson.dumps(call.asked)
    response = await call.answer()
    response.headers.update(both := headers.joined([made, response.headers]))
    if response.status_code != 200:
        return response
    if why := await misfit(orjson.loads(response.body)):
        raise InvalidStructuredOutput(f"{_UNFIT}, twice: {why}.", told=both)
    if told:
        _warn(response, told)
    return response


async def _misfit(call: Call, wanted: Wanted, document: Any) -> str:
    for text in wanted.texts(document):
        if wanted.schema is None:
            why = schema.plain_fault(wanted, text)
        else:
            why = await call.here.judge.verdict(wanted.schema, text)
        if why:
            return why
    return ""

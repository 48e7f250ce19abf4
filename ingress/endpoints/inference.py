"""One request for inference, from its key to its answer: the same steps for every endpoint.

An endpoint is data, a line of `schemas.api.endpoints`. The steps: look up the key, read the body,
parse it, find the model, check what the model can do with the request. Then submit one job, or
several if `n` choices are wanted of an engine that gives one at a time, and pass on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import headers
from ingress.answer.fanout import bodies
from ingress.answer.respond import Exchange
from ingress.answer.schema_gate import Misfit, SchemaGate
from ingress.context import Context, context
from ingress.http.auth import Principal
from ingress.http.body import need_json, read_body
from ingress.http.protocol import BEGUN
from ingress.jobs.dispatch import Order
from ingress.models import fields, locality
from ingress.models.locality import ANY
from ingress.models.routes import Plan
from ingress.request.forms import read_form
from schemas.api.base import NO_ANSWER, Api
from schemas.api.endpoints import Endpoint
from schemas.api.json_format import Formats
from schemas.api.narrow import narrowed
from schemas.api.shape import Shape
from schemas.errors import (
    EngineFailed,
    HeadraceError,
    InvalidRequest,
    InvalidStructuredOutput,
    ShuttingDown,
)
from schemas.nodes import Ignored

LENIENT_HEADER = "x-headrace-lenient"
WARNING_HEADER = "x-headrace-warning"
HOLD_BACK_HEADER = "x-headrace-hold-back"
JSON = "application/json"
SUCCESS = 200
_CHOICES, _NONE = frozenset({"n"}), frozenset[str]()
_STREAMS = (True, "sse")
"""Values with which a request asks for a stream."""
_COPIES = 4
"""The requests made of one request for `n` choices may have as many times `max_body` bytes."""
_NOBODY = False, False, False
"""Nobody may continue the stream."""
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
    asked: Mapping[str, Any]
    body: bytes
    content_type: str
    plan: Plan
    stream: bool
    lenient: bool

    async def answer(self, gate: SchemaGate | None = None) -> Response:
        """Submit the request and wait for the head of its answer. `gate`: judges its stream.
        Raises the error with which the request failed."""
        here, request, api = self.caller.here, self.caller.request, self.endpoint.api
        copies = self._copies()
        if copies > 1:
            room = _COPIES * here.config.ingress.max_body
            orders = [self._order(body) for body in bodies(self.asked, copies, room)]
            tickets = await here.dispatch.submit_all(orders)
        else:
            resumers = self._resumers(gate) if self.stream else _NOBODY
            tickets = [await here.dispatch.submit(self._order(self.body, resumers))]
        room = here.config.ingress.max_buffer // 2 if self.stream and self._is_held() else 0
        exchange = Exchange(request, here.dispatch, tickets, self.plan.name, api, gate, room)
        return await exchange.answer(here.config.ingress.keepalive)

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

    def _order(self, body: bytes, resumers: tuple[bool, bool, bool] = _NOBODY) -> Order:
        """`resumers`: see `_resumers`."""
        plan, who, path = self.plan, self.caller.who, self.endpoint.path
        begun = self.caller.request.scope["state"].get(BEGUN, b"")
        more = self.content_type, who.account, who.key, self.lenient, *resumers, begun
        return Order(plan, path, self.stream, body, *more)

    def _resumers(self, gate: SchemaGate | None) -> tuple[bool, bool, bool]:
        """Whether workers, whether providers may continue the stream if it breaks, and whether the
        workers may do so behind thoughts. A text that was begun under a format is continued without
        the format, and its gate judges the whole. No provider is paid for such a text."""
        plan = self.plan
        if gate is not None and BEGUN in self.caller.request.scope["state"]:
            return _NOBODY  # the gate has not heard the beginning
        providers = plan.resumes and plan.reach == ANY and gate is None
        return plan.workers_resume, providers, plan.thoughts_resume and not plan.paid


async def serve(request: Request, endpoint: Endpoint) -> Response:
    """Answer a request at `endpoint`. Raises HeadraceError."""
    caller = admit(request)
    if endpoint.form is None:
        asked, body = await read_json(caller, endpoint.shape)
        return await answer(caller, endpoint, asked, body)
    form = await read_form(request, caller.here.config.ingress.max_body)
    for name in sorted(endpoint.form.files):
        form.file(name)
    asked, form = form.checked(endpoint.form, endpoint.shape)
    return await answer(caller, endpoint, asked, form.body, form.content_type)


def admit(request: Request) -> Caller:
    """Find out who asks. Raises Unauthorized, ShuttingDown."""
    here = context(request)
    caller = Caller(request, here, here.keys.who(request))
    if here.draining:
        raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
    return caller


async def read_json(caller: Caller, shape: Shape) -> tuple[dict[str, Any], bytes]:
    """The checked request, and its bytes. Raises HeadraceError."""
    need_json(caller.request)
    body = await read_body(caller.request, caller.here.config.ingress.max_body)
    return shape.read(body)


async def answer(
    caller: Caller,
    endpoint: Endpoint,
    asked: dict[str, Any],
    body: bytes,
    content_type: str = JSON,
) -> Response:
    """The engine's answer to `body`; `asked` is `body` parsed and checked. Raises HeadraceError.

    A field that would have no effect is refused by name. If it is a hint, or the client is lenient,
    the answer has a warning instead.
    """
    here, request = caller.here, caller.request
    wish = request.headers.get(locality.HEADER, "")
    plan = here.routes.plan(asked.get("model"), endpoint, wish, caller.who.local)
    wanted = {**asked, **endpoint.means} if endpoint.means else asked
    ignored, strange = list[Ignored](), ""
    lenient = request.headers.get(LENIENT_HEADER, "").lower() == "true"
    if not plan.honours(wanted, body):
        taken, able = _CHOICES if endpoint.choices else _NONE, plan.ability
        ignored, strange = able.lost(plan.model, wanted, taken, body), able.strange(asked)
        left, foreign = able.without_server_tools(asked, ignored)
        ignored += foreign
        ignored = ignored if lenient else fields.refuse(plan.name, ignored, able.feature)
        if foreign:
            asked, body = left, orjson.dumps(left)
    if not endpoint.shape.is_text(asked):  # most requests are, and need no look for pictures
        served = "" if plan.paid else plan.model
        body = await here.media.resolve(request, endpoint, asked, body, served)
    streams = endpoint.stream != "" and asked.get(endpoint.stream) in _STREAMS
    # An engine that ignores `stream` gives a document.
    stream = streams and all(each.field != "stream" for each in ignored)
    lenient = lenient and bool(ignored or strange)
    call = Call(caller, endpoint, asked, body, content_type, plan, stream, lenient)
    said = not endpoint.api.format_fields.isdisjoint(asked)
    formats = endpoint.api.json_formats(asked) if said else None
    response = await (call.answer() if formats is None else _structured(call, formats))
    if ignored or strange:
        warn(response, fields.warning(ignored, strange))
    return response


def warn(response: Response, text: str) -> None:
    """Say `text` in the warning header, behind what it says already."""
    before = response.headers.get(WARNING_HEADER)
    response.headers[WARNING_HEADER] = f"{before}; {text}" if before else text


async def _structured(call: Call, formats: Formats) -> Response:
    """The answer to a request whose answer must fit schemas, which are checked first. If a document
    does not fit, it is asked for once more: the model is told why, and held to narrower schemas. A
    stream cannot be taken back, so it ends with the error. Raises InvalidRequest,
    InvalidStructuredOutput."""
    here, api = call.caller.here, call.endpoint.api
    param, why = await here.schema_checker.fault_of(formats)
    if why:
        raise InvalidRequest(f"Invalid schema for {param!r}: {why}.", param=param)
    misfit = partial(here.schema_checker.misfit, formats)
    if call.stream:
        parts = api.finished_in_stream(here.config.ingress.max_answer)
        return await call.answer(SchemaGate(misfit, parts))
    response = await call.answer()
    if not (why := await _unfit(response, api, misfit)):
        return response
    made = headers.joined([response.headers])
    again = api.objected({**call.asked}, orjson.loads(response.body), why)
    call.body = orjson.dumps(narrowed(again, formats))
    call.asked = orjson.loads(call.body)
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
        parts = list(api.finished(orjson.loads(response.body)))
        if not all(isinstance(part.text, str | None) for part in parts):
            raise TypeError
    except NO_ANSWER as fault:
        why = f"The engine's answer is none: {type(fault).__name__}."
        raise EngineFailed(why, source="engine") from None
    return await misfit(parts)

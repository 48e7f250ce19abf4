"""What the endpoints of sounds and pictures have in common: a key, a model that can, one job.

Their bodies are forms, or small JSON, that go to the engine as they came. As there is often just
one model for such work, a request need not name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer.respond import Exchange
from ingress.context import Context, context, principal
from ingress.endpoints.generation import LENIENT_HEADER, WARNING_HEADER
from ingress.http.auth import Principal
from ingress.jobs.dispatch import Order
from ingress.models import fields, locality
from ingress.models.routes import Plan
from schemas.api.endpoints import Endpoint
from schemas.errors import InvalidRequest, ModelNotFound, ShuttingDown
from schemas.jobs import ASKED, LENIENT
from schemas.nodes import Ignored

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Caller:
    """A request whose key is known."""

    request: Request
    here: Context
    who: Principal

    @property
    def lenient(self) -> bool:
        return self.request.headers.get(LENIENT_HEADER, "").lower() == "true"


def admit(request: Request) -> Caller:
    """Raises Unauthorized, ShuttingDown."""
    caller = Caller(request, context(request), principal(request))
    if caller.here.draining:
        raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
    return caller


async def work(
    caller: Caller, kind: Endpoint, asked: Mapping[str, Any], body: bytes, content_type: str
) -> Response:
    """The engine's answer to `body`, of which `asked` is what was understood. Raises HeadraceError.

    A field that would do nothing is refused by name; for a lenient client it becomes a warning.
    """
    here, who = caller.here, caller.who
    plan = choose(caller, asked.get("model"), kind)
    wanted = {**asked, **kind.means}
    ignored = here.fields.check(plan.model, kind.word, wanted, _NONE, plan.paid)
    strange = here.fields.strange(plan.model, kind.word, asked, plan.paid)
    if not caller.lenient:
        fields.refuse(plan.name, ignored)
    tags = () if plan.name == plan.model else ((ASKED, plan.name),)
    if caller.lenient:
        tags = (*tags, LENIENT)
        own = here.fields.ability(plan.model, kind.word, plan.paid).shared
        ignored = [*ignored, *_unknown(asked, kind.shape.names | own)]
        strange = ""
    stream = bool(asked.get("stream")) and all(each.field != "stream" for each in ignored)
    order = Order(plan, kind.path, stream, body, content_type, who.account, who.key, tags)
    ticket = await here.dispatch.submit(order)
    exchange = Exchange(caller.request, here.dispatch, ticket, plan.name, kind.api)
    response = await exchange.answer(here.config.ingress.keepalive)
    if ignored or strange:
        response.headers[WARNING_HEADER] = fields.warning(ignored, strange)
    return response


def choose(caller: Caller, name: str | None, kind: Endpoint) -> Plan:
    """The named model, or the only one that does this. Raises ModelNotFound, InvalidRequest."""
    here = caller.here
    wish = caller.request.headers.get(locality.HEADER, "")
    return here.routes.plan(name or _only(here, kind), kind.word, wish, caller.who.local)


def _only(here: Context, kind: Endpoint) -> str:
    able = [
        model
        for model, places in sorted(here.catalog.models().items())
        if any(kind.word in served.features for _, served in places)
    ]
    if here.config.routes.default in able:
        return here.config.routes.default
    if not able:
        why = f"No model was named, and no engine that runs now has {kind.path}."
        raise ModelNotFound(why, param="model")
    if len(able) > 1:
        why = f"Missing required parameter: 'model'. These have {kind.path}: {', '.join(able)}."
        raise InvalidRequest(why, param="model")
    return able[0]


def _unknown(asked: Mapping[str, Any], known: frozenset[str]) -> list[Ignored]:
    """Fields that OpenAI has not: an engine may know them, and passes over them if not."""
    why = "it is not known here, unless the engine knows it"
    return [Ignored(name, why) for name in asked if name not in known]

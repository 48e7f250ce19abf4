"""Credits over HTTP, for keys that are `admin`: the same as ``headrace credits``.

The ingress cannot reach the journal of credits, so it asks a fallback: for grants by its login of
the account with the keys, as that of the fabric's may not. Amounts in requests are
decimals of the currency, such as ``"12.50"``. Amounts in answers are whole micro-units (millionths
of the currency).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.http.auth import need_scope
from ingress.http.body import need_json, read_body
from schemas import subjects, tally
from schemas.bus import Bus, BusDenied, BusError
from schemas.errors import (
    HeadraceError,
    InsufficientCredits,
    InvalidRequest,
    KeysUnavailable,
    NoWorker,
    Unavailable,
)
from schemas.keys import ADMIN

MOST = 10_000
"""Entries of the history, or accounts, in one answer."""
_MICRO = 1_000_000
_LIMIT = 16 * 1024
"""Bytes of a grant's body."""


class Grant(BaseModel):
    """What a grant says. `id`: two grants with the same id count once. `create`: also to an account
    that no key has."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[Decimal, Field(ge=-(10**9), le=10**9, decimal_places=6)]
    note: str = Field("", max_length=500)
    id: str = Field("", max_length=100)
    create: bool = False


async def index(request: Request) -> Response:
    """``GET /admin/credits``: the balances of all accounts, in the order of their names; `more`:
    there are others behind these."""
    here = _admin(request)
    found = await told(here, {"op": "balances"})
    return as_json(here, found[:MOST], more=len(found) > MOST)


async def show(request: Request) -> Response:
    """``GET /admin/credits/{account}``"""
    account = request.path_params["account"]
    return await _asked(_admin(request), {"op": "show", "account": account})


async def history(request: Request) -> Response:
    """``GET /admin/credits/{account}/history?limit=100&since=7d``"""
    here = _admin(request)
    limit = request.query_params.get("limit", "100")
    # Python refuses to read a number of thousands of digits, so the length is looked at first.
    if not limit.isdecimal() or len(limit) > len(str(MOST)) or not 1 <= int(limit) <= MOST:
        raise InvalidRequest(f"limit: {limit!r} is no number from 1 to {MOST}.", param="limit")
    account = request.path_params["account"]
    question = {"op": "history", "account": account, "limit": int(limit)}
    return await _asked(here, {**question, "since": moment(request, "since", "1970-01-01")})


async def grant(request: Request) -> Response:
    """``POST /admin/credits/{account}/grants`` with ``{"amount": "12.50", "note": …, "id": …}``"""
    here = _admin(request)
    need_json(request)
    try:
        said = Grant.model_validate_json(await read_body(request, _LIMIT))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from None
    account = request.path_params["account"]
    if said.amount > 0 and not said.create and not here.keys.has_account(account):
        why = f'No key has the account {account!r}. To grant it all the same, send "create": true.'
        raise InvalidRequest(why, param="create")
    if here.vault is None:
        raise KeysUnavailable(
            "This ingress has no login in [vault], which grants need. 'headrace credits grant' "
            "works without one."
        )
    question = {
        "account": account,
        "amount": int(said.amount * _MICRO),
        "note": said.note,
        "id": said.id,
        "by": here.keys.who(request).key,
    }
    return as_json(here, await _answer(here.vault, subjects.ASK_GRANT, question))


def _admin(request: Request) -> Context:
    """The context, if the key has the scope `admin`. Raises Unauthorized, InsufficientScope."""
    need_scope(request, ADMIN)
    return context(request)


async def _asked(here: Context, question: dict[str, Any]) -> Response:
    return as_json(here, await told(here, question))


def as_json(here: Context, data: Any, **more: Any) -> Response:
    said = {"currency": here.config.fallback.currency, "unit": "micro", "data": data, **more}
    return Response(orjson.dumps(said), media_type="application/json")


def moment(request: Request, name: str, default: str = "") -> float:
    """Unix seconds that the parameter `name` says (`tally.moment`). Raises InvalidRequest."""
    text = request.query_params.get(name) or default
    try:
        return tally.moment(text, end=name == "until")
    except ValueError as fault:
        raise InvalidRequest(f"{name}: {fault}.", param=name) from None


async def told(here: Context, question: dict[str, Any]) -> Any:
    """A fallback's answer. Raises NoWorker if no fallback answers."""
    return await _answer(here.bus, subjects.ASK_LEDGER, question)


async def _answer(bus: Bus, subject: str, question: dict[str, Any]) -> Any:
    try:
        answer = await bus.request(subject, orjson.dumps(question), timeout=10.0)
    except BusDenied as fault:
        raise Unavailable(f"The broker does not allow it: {fault}.", retry_after=60) from None
    except BusError:
        why = "No fallback runs, which keeps the credits. 'headrace credits' works without one."
        raise NoWorker(why, retry_after=5) from None
    said = orjson.loads(answer.data)
    if "error" in said:
        raise _refused(said["kind"], said["error"])
    return said["ok"]


def _refused(kind: str, why: str) -> HeadraceError:
    if kind == "insufficient":
        return InsufficientCredits(f"The account has less than that: {why}.", source="fallback")
    if kind == "invalid":
        return InvalidRequest(why, source="fallback")
    return Unavailable(f"The credits cannot be read now: {why}.", retry_after=1, source="fallback")

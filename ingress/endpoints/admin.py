"""Credits and usage over HTTP, for keys that are `admin`: the same as ``headrace credits``.

The ingress cannot reach the journal of credits, so it asks a fallback. Amounts in requests are
decimals of the currency, such as ``"12.50"``. Amounts in answers are whole micro-units (millionths
of the currency).
"""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.http.body import need_json, read_body
from schemas import subjects
from schemas import usage as usages
from schemas.bus import BusError
from schemas.errors import (
    Forbidden,
    HeadraceError,
    InsufficientCredits,
    InvalidRequest,
    NoWorker,
    Unavailable,
)
from schemas.jetstream import reading
from schemas.usage import GROUPS, summed

MOST = 10_000
"""Entries of the history in one answer."""
_MICRO = 1_000_000
_LIMIT = 16 * 1024
"""Bytes of a grant's body."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Grant(BaseModel):
    """What a grant says. `id`: two grants with the same id count once."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[Decimal, Field(ge=-(10**9), le=10**9, decimal_places=6)]
    note: str = Field("", max_length=500)
    id: str = Field("", max_length=100)


async def show(request: Request) -> Response:
    """``GET /admin/credits/{account}``"""
    account = request.path_params["account"]
    return await _asked(request, {"op": "show", "account": account})


async def history(request: Request) -> Response:
    """``GET /admin/credits/{account}/history?limit=100&since=7d``"""
    limit = request.query_params.get("limit", "100")
    # Python refuses to read a number of thousands of digits, so the length is looked at first.
    if not limit.isdecimal() or len(limit) > len(str(MOST)) or not 1 <= int(limit) <= MOST:
        raise InvalidRequest(f"limit: {limit!r} is no number from 1 to {MOST}.", param="limit")
    account = request.path_params["account"]
    question = {"op": "history", "account": account, "limit": int(limit)}
    return await _asked(request, {**question, "since": _since(request, "")})


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
    question = {
        "op": "grant",
        "account": request.path_params["account"],
        "amount": int(said.amount * _MICRO),
        "note": said.note,
        "id": said.id,
        "by": here.keys.who(request).key,
    }
    return _json(here, await _told(here, question))


async def usage(request: Request) -> Response:
    """``GET /admin/usage?since=7d&by=day,key,model&account=…``, for workers and providers."""
    by = [name for name in request.query_params.get("by", "day,model").split(",") if name]
    if not by or set(by) - set(GROUPS) or len(set(by)) < len(by):
        raise InvalidRequest(f"by: give some of {', '.join(GROUPS)}.", param="by")
    account, since = request.query_params.get("account", ""), _since(request, "7d")
    here = _admin(request)
    try:
        messages = reading.read(here.bus, subjects.USAGE_STREAM, since=since)
        rows = usages.served([message async for message in messages])
    except BusError as fault:
        raise Unavailable(f"Usage cannot be read now: {fault}.", retry_after=1) from None
    served = [usages.record(row) for row in rows if account in ("", row.account)]
    question = {"op": "usage", "by": by, "account": account, "since": since}
    paid = await _told(here, question) if here.routes.cloudy() else []
    return _json(here, summed([*served, *paid], by))


def _since(request: Request, default: str) -> float:
    text = request.query_params.get("since", default)
    if not text:
        return 0.0
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if not found:
        raise InvalidRequest(f"since: {text!r} is no span such as 7d or 12h.", param="since")
    return time.time() - int(found[1]) * _UNITS[found[2]]


def _admin(request: Request) -> Context:
    """The context, if the key is `admin`. Raises Unauthorized, Forbidden."""
    here = context(request)
    if not here.keys.who(request).admin:
        raise Forbidden("This key is no admin's: its table [[keys]] does not say admin = true.")
    return here


async def _asked(request: Request, question: dict[str, Any]) -> Response:
    here = _admin(request)
    return _json(here, await _told(here, question))


def _json(here: Context, data: Any) -> Response:
    told = {"currency": here.config.fallback.currency, "unit": "micro", "data": data}
    return Response(orjson.dumps(told), media_type="application/json")


async def _told(here: Context, question: dict[str, Any]) -> Any:
    """A fallback's answer. Raises NoWorker if no fallback answers."""
    try:
        answer = await here.bus.request(subjects.ASK_LEDGER, orjson.dumps(question), timeout=10.0)
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

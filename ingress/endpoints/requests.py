"""``/v1/requests``: what runs and what ended lately, of the key's account, and for an admin of all;
and the end of one that runs. Prompts and answers are not there."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.http.auth import Principal, need_scope
from schemas import bounds
from schemas import requests as words
from schemas.bus import BusError
from schemas.errors import BrokerUnavailable, Forbidden, InvalidRequest, RequestNotFound
from schemas.jobs import CodecError
from schemas.keys import ADMIN, READ_USAGE
from schemas.requests import MOST_ROWS, Question, Told

LIMIT = 100
"""Ended requests that are told unless `limit` says otherwise."""


async def index(request: Request) -> Response:
    """``GET /v1/requests?after=…&limit=100&account=…``: the newest first. `after`: what the answer
    before said, to be told only of those that ended since. Raises Unauthorized, InsufficientScope,
    Forbidden, InvalidRequest, BrokerUnavailable."""
    who, here = need_scope(request, READ_USAGE), context(request)
    asked = request.query_params
    account = _account(who, asked.get("account", ""))
    most = _limit(asked.get("limit", str(LIMIT)))
    try:
        after = words.read_cursor(asked["after"]) if asked.get("after") else {}
    except CodecError as fault:
        raise InvalidRequest(f"after: {fault}.", param="after") from None
    found, whole = await _find(here, Question(account, after, most))
    ended = sorted((row for each in found for row in each.ended), key=_arrived, reverse=True)
    live = sorted((row for each in found for row in each.live), key=_arrived, reverse=True)
    said: dict[str, Any] = {
        "object": "list",
        "data": [*live, *ended[:most]],
        "after": words.cursor({**after, **{each.ingress: each.last for each in found}}),
        "complete": whole,
    }
    return Response(orjson.dumps(said), media_type="application/json")


async def cancel(request: Request) -> Response:
    """``DELETE /v1/requests/{id}``: of the key's own account, or of any for an admin. Its client
    gets an error. Raises Unauthorized, InsufficientScope, RequestNotFound, BrokerUnavailable."""
    here, job = context(request), request.path_params["id"]
    who = here.keys.who(request)
    admin = ADMIN in who.policy.scopes
    if not admin:
        who.need_any_endpoint()
    try:
        named = bounds.is_token(job, bounds.NAME)
        done = named and await here.recent.cancel(job, "" if admin else who.account)
    except BusError as fault:
        raise _away(fault) from None
    if not done:
        why = "No request of this id waits or runs: it may have ended, or be another account's."
        raise RequestNotFound(why)
    said = {"object": "request.cancelled", "id": job, "cancelled": True}
    return Response(orjson.dumps(said), media_type="application/json")


async def _find(here: Context, question: Question) -> tuple[list[Told], bool]:
    try:
        return await here.recent.find(question)
    except BusError as fault:
        raise _away(fault) from None


def _away(fault: BusError) -> BrokerUnavailable:
    return BrokerUnavailable(f"Requests cannot be looked for now: {fault}.", retry_after=1)


def _account(who: Principal, wanted: str) -> str:
    """Whose requests are told; empty: all accounts'."""
    if ADMIN in who.policy.scopes:
        return wanted
    if wanted not in ("", who.account):
        raise Forbidden("This key may read its own account's requests alone.")
    return who.account


def _limit(said: str) -> int:
    if not said.isascii() or not said.isdecimal() or not 0 < len(said) < 5:
        raise InvalidRequest("limit: a whole number is needed.", param="limit")
    if not 1 <= (most := int(said)) <= MOST_ROWS:
        raise InvalidRequest(f"limit: 1 to {MOST_ROWS}.", param="limit")
    return most


def _arrived(row: words.Row) -> float:
    at = row.get("arrived")
    return float(at) if isinstance(at, int | float) else 0.0


ROUTES = (
    ("/v1/requests", index, "GET"),
    ("/v1/requests/{id}", cancel, "DELETE"),
)

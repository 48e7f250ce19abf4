"""Usage over HTTP: of all accounts for an admin, and of its own account for a key that may read it.

The ingress counts what workers served; what providers were used for is in the journal of credits,
so it asks a fallback."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ingress import usage_report
from ingress.context import Context, context
from ingress.endpoints.admin import as_json, moment, told
from ingress.http.auth import need_scope
from schemas import tally
from schemas.bus import BusError
from schemas.errors import Forbidden, InvalidRequest, Unavailable
from schemas.keys import ADMIN, READ_USAGE
from schemas.tally import Question, Tally


async def everyone(request: Request) -> Response:
    """``GET /admin/usage?since=7d&until=2026-11-30&by=day,key,model&account=…&key=…``"""
    need_scope(request, ADMIN)
    return await _answer(
        context(request), _question(request, request.query_params.get("account", ""))
    )


async def own(request: Request) -> Response:
    """``GET /v1/usage``: the same, of the key's own account."""
    who = need_scope(request, READ_USAGE)
    if request.query_params.get("account", who.account) != who.account:
        raise Forbidden("This key may read its own account's usage alone.")
    return await _answer(context(request), _question(request, who.account))


def _question(request: Request, account: str) -> Question:
    """Raises InvalidRequest."""
    asked = request.query_params
    try:
        by = tally.grouped(asked.get("by", "day,model"))
    except ValueError as fault:
        raise InvalidRequest(f"by: {fault}.", param="by") from None
    until = moment(request, "until") if "until" in asked else tally.FOREVER
    since = moment(request, "since", "7d")
    try:
        return Question(by, since, until, account, asked.get("key", ""))
    except ValueError as fault:
        raise InvalidRequest(f"until: {fault}.", param="until") from None


async def _answer(here: Context, question: Question) -> Response:
    found = Tally(question)
    try:
        async with here.counting:
            await usage_report.count(here.bus, found)
    except BusError as fault:
        raise Unavailable(f"Usage cannot be read now: {fault}.", retry_after=1) from None
    if here.routes.cloudy():
        for row in await told(here, {"op": "usage", **question.asked()}):
            found.add(row)
    span: dict[str, Any] = {"since": _stamp(question.since), "until": None}
    if question.until < tally.FOREVER:
        span["until"] = _stamp(question.until)
    return as_json(here, found.rows(), total=found.total(), **span)


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(max(0.0, at), UTC).isoformat(timespec="seconds")

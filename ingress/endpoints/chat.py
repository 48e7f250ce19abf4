"""``POST /v1/chat/completions``."""

from __future__ import annotations

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import context, principal
from ingress.dispatch import Order
from ingress.limits import need_json, read_body
from ingress.respond import Exchange
from schemas.errors import InvalidRequest, ShuttingDown
from schemas.openai import ChatRequest, refusal

PATH = "/v1/chat/completions"


async def create(request: Request) -> Response:
    here = context(request)
    who = principal(request)
    if here.draining:
        raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
    need_json(request)
    body = await read_body(request, here.config.ingress.max_body)
    asked = parse(body)
    plan = here.routes.plan(asked.model)
    ticket = await here.dispatch.submit(
        Order(plan, PATH, bool(asked.stream), body, "application/json", who.account, who.key)
    )
    exchange = Exchange(request, here.dispatch, ticket, plan.name)
    return await exchange.answer(here.config.ingress.keepalive)


def parse(body: bytes) -> ChatRequest:
    """Raises InvalidRequest for anything that is no chat request."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise InvalidRequest(f"The body is not valid JSON: {fault}.") from None
    try:
        return ChatRequest.model_validate(found)
    except ValidationError as fault:
        raise refusal(fault) from None

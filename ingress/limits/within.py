"""One request within the limits of its key and account: a permit before, headers behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import Response

from ingress.limits import estimate, headers
from schemas.errors import HeadraceError

if TYPE_CHECKING:
    from ingress.endpoints.inference import Call


async def within(call: Call, respond: Callable[[], Awaitable[Response]]) -> Response:
    """The response of `respond`, which hands on the permit of `call`. Raises HeadraceError."""
    limiter, endpoint = call.caller.here.limiter, call.endpoint
    if not (keepers := limiter.keepers(call.caller.who)):
        return await respond()  # there is nothing to count
    prompt = estimate.prompt(endpoint, call.asked, len(call.body))
    answer = estimate.answer(endpoint, call.asked)
    try:
        call.permit = await limiter.admit(keepers, call.plan.model, prompt, answer)
        try:
            response = await respond()
        finally:
            call.permit.leave()
    except HeadraceError as error:
        if limiter.clock.is_known:
            error.told = {**error.told, **headers.told(keepers, limiter.clock, endpoint.api)}
        raise
    response.headers.update(headers.told(keepers, limiter.clock, endpoint.api))
    return response

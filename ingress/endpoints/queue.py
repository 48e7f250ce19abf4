"""``GET /v1/queue``: the queue of each model, and the places of the account's own requests in it.

The counts are the broker's, of all ingresses. Places are known of the requests that this ingress
has, in the order in which it answers claims.
"""

from __future__ import annotations

import math
import time
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.http.auth import Principal, need_scope
from ingress.jobs.line import Place
from ingress.jobs.ticket import Ticket
from schemas import subjects
from schemas.bus import BusError
from schemas.errors import BrokerUnavailable
from schemas.globs import may_use
from schemas.jetstream.queues import Queue
from schemas.keys import READ_USAGE

MOST = 100
"""Most of the account's requests that are listed for one model; all of them are counted."""


async def show(request: Request) -> Response:
    """Raises Unauthorized, InsufficientScope, BrokerUnavailable."""
    who = need_scope(request, READ_USAGE)
    here = context(request)
    try:
        found = await here.dispatch.line.lengths(time.monotonic())
    except BusError as fault:
        why = f"The queues cannot be read now: {fault}."
        raise BrokerUnavailable(why, retry_after=1) from None
    names = {name for name in {*here.catalog.models(), *found} if _may_see(here, who, name)}
    told = [_model(here, who, name, found.get(name, {})) for name in sorted(names)]
    return Response(orjson.dumps({"object": "list", "data": told}), media_type="application/json")


def _may_see(here: Context, who: Principal, model: str) -> bool:
    """Whether the key may use the model, by its own name or another."""
    names = [name for name, served in here.routes.aliases().items() if served == model]
    return any(may_use(name, who.policy.models) for name in (model, *names))


def _model(here: Context, who: Principal, model: str, lanes: dict[str, Queue]) -> dict[str, Any]:
    waits = [queue.oldest for queue in lanes.values() if queue.oldest is not None]
    interactive = lanes.get(subjects.INTERACTIVE)
    busy = interactive is not None and interactive.waiting
    lane = subjects.INTERACTIVE if busy or subjects.BATCH not in lanes else subjects.BATCH
    each = here.dispatch.line.pace(model, lane)
    # A node's lane is named once it has jobs: most have none, ever.
    named = {n: queue for n, queue in lanes.items() if queue.depth or not subjects.is_pinned(n)}
    return {
        "object": "queue",
        "model": model,
        "slots": here.catalog.slots(model),
        "running": sum(queue.in_flight for queue in lanes.values()),
        "waiting": sum(queue.waiting for queue in lanes.values()),
        "oldest_wait": round(max(waits), 3) if waits else None,
        "drain_rate": round(1 / each, 3) if each else None,
        "lanes": {subjects.lane_name(name): _lane(queue) for name, queue in named.items()},
        "own": _own(here, who.account, model),
    }


def _lane(queue: Queue) -> dict[str, Any]:
    oldest = None if queue.oldest is None else round(queue.oldest, 3)
    return {"running": queue.in_flight, "waiting": queue.waiting, "oldest_wait": oldest}


def _own(here: Context, account: str, model: str) -> dict[str, Any]:
    """The account's own jobs that wait here, the next one first."""
    queues = [queue for name, _, queue in here.dispatch.queues if name == model]
    waiting = (here.dispatch.tickets.get(id) for queue in queues for id in queue)
    now, places = time.monotonic(), here.dispatch.line.places
    found = [
        _job(ticket, places.get(ticket.job.id), now)
        for ticket in waiting
        if ticket is not None and ticket.job.account == account
    ]
    found.sort(key=lambda each: each["position"] or math.inf)
    return {"waiting": len(found), "requests": found[:MOST]}


def _job(ticket: Ticket, place: Place | None, now: float) -> dict[str, Any]:
    """`place`: None for one that came just now, or whose model nobody serves."""
    eta = place.eta(now) if place is not None else None
    return {
        "job": ticket.job.id,
        "key": ticket.job.key,
        "lane": subjects.lane_name(ticket.lane),
        "position": place.position if place is not None else None,
        "eta": None if eta is None else round(eta, 1),
        "waited": round(now - ticket.times.queued, 1),
    }

"""``GET /v1/compat``: the live compatibility matrix, of all models or of ``?model=`` alone.

The probes call this ingress at the address that the client reached, with the client's own key: they
may do no more than it may, and their requests are logged and counted as its own. No provider is
asked, as that would cost money. With ``Accept: text/event-stream`` each cell is told as soon as it
is known, and the table is the last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
from starlette.requests import Request
from starlette.responses import Response

from deploy.compat.run import Run
from deploy.compat.target import Facts, Target
from deploy.compat.transport import over_http
from ingress.app import Entry
from ingress.context import Context, context
from ingress.http.auth import Principal, need_scope
from ingress.http.protocol import CLIENT_GONE
from ingress.http.streamed import EventStream
from ingress.models import locality
from ingress.models.routes import usable
from schemas.api import endpoints, sse
from schemas.errors import ClientGone, ModelNotFound, QueueFull, ShuttingDown
from schemas.globs import may_use
from schemas.keys import INFERENCE

Table = dict[str, Any]
_AGAIN = 10.0
"""Seconds after which it is worth asking again while another run goes on."""
_KEY_HEADERS = ("authorization", "x-api-key")


class Matrix:
    """The endpoint of one ingress; one run at a time."""

    def __init__(self) -> None:
        self.running: asyncio.Task[Table] | None = None

    def entries(self) -> tuple[Entry, ...]:
        return (("/compat", self.show, "GET"),)

    async def show(self, request: Request) -> Response:
        """Raises Unauthorized, InsufficientScope, ModelNotFound, ShuttingDown, and QueueFull while
        another run goes on."""
        here = context(request)
        who = need_scope(request, INFERENCE)
        if here.draining:
            raise ShuttingDown("This ingress is shutting down. Try again.", retry_after=1)
        names = _chosen(here, who, request.query_params.get("model"))
        if self.running is not None and not self.running.done():
            why = "The models are being probed already, for somebody else. Try again."
            raise QueueFull(why, retry_after=_AGAIN)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        ask = over_http(_address(request), _who(request), session)
        run = Run({name: Target(name, _facts(here, name), ask) for name in names})
        self.running = task = asyncio.create_task(_fill(run, session))
        request.scope["state"][CLIENT_GONE] = task.cancel  # called by `ingress.http.protocol`
        return await _answer(request, task, run)


async def _fill(run: Run, session: aiohttp.ClientSession) -> Table:
    async with session:
        return await run.fill()


async def _answer(request: Request, task: asyncio.Task[Table], run: Run) -> Response:
    if sse.CONTENT_TYPE in request.headers.get("accept", ""):
        return EventStream(_events(run, task), headers={"x-request-id": request.state.id})
    try:
        table = await task
    except asyncio.CancelledError:
        raise ClientGone("the client left") from None
    return Response(orjson.dumps(table), media_type="application/json")


async def _events(run: Run, task: asyncio.Task[Table]) -> AsyncIterator[bytes]:
    """The run ends when the client leaves."""
    try:
        async for event in run.events():
            yield sse.dump(event)
        await asyncio.wait({task})  # raises nothing if the task was cancelled
        if not task.cancelled():
            yield sse.dump(task.result())
    finally:
        task.cancel()


def _chosen(here: Context, who: Principal, name: str | None) -> list[str]:
    """The names to be probed, of those that the key may use. Raises ModelNotFound."""
    globs = who.policy.models
    live = usable(sorted(here.catalog.models()), globs)
    if name is None:
        return live
    served = here.routes.aliases().get(name, name) in here.catalog.models()
    if not served or not may_use(name, globs):
        known = ", ".join(live) or "none: start a worker"
        why = f"The model {name!r} is not served now. Models that are: {known}."
        raise ModelNotFound(why, param="model")
    return [name]


def _facts(here: Context, name: str) -> Facts:
    model = here.routes.aliases().get(name, name)
    where = here.catalog.models()[model]

    def busy() -> int:
        cards = {card.holder: card for card, _ in here.catalog.models().get(model, ())}
        return sum(engine.busy for card in cards.values() for engine in card.serving(model))

    def ignored(word: str) -> frozenset[str]:
        fields = (each for _, served in where for each in served.ignores)
        return frozenset(each.field for each in fields if not each.at or word in each.at)

    return Facts(
        engines=tuple(sorted({served.kind for _, served in where})),
        nodes=tuple(sorted({card.node for card, _ in where})),
        features=tuple(sorted({word for _, served in where for word in served.features})),
        # Any of the engines may get the probe, so the shortest counts.
        context=min(served.context for _, served in where),
        ignores={word: ignored(word) for word in endpoints.BY_WORD},
        busy=busy,
        listens=here.config.ingress.host,
    )


def _address(request: Request) -> str:
    """This ingress's address by its socket, as a client's Host header may lead elsewhere."""
    host, port = request.scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _who(request: Request) -> dict[str, str]:
    """The client's own key, and a header that keeps probes from providers, which cost money."""
    key = {name: request.headers[name] for name in _KEY_HEADERS if name in request.headers}
    return {**key, locality.HEADER: "never"}

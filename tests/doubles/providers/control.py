"""A simulator's control over HTTP, at ``/_sim`` of its own port, for another process.

Its connections and requests are counted nowhere, and `down` leaves them open.

    GET  /_sim/record          {"counters", "requests": [...], "used": {...}}
    POST /_sim/wait            {"seen": 3} | {"quiet": true}: answers when it is so, 504 if never
    POST /_sim/pace            {"token_s": 0.01, ...}; "may_answer", "may_generate": booleans
    POST /_sim/faults          {"make": "cut", "after": 3, "model": null, "times": 1, ...}
    POST /_sim/limits          {"requests": 5, "tokens": 100, "window_s": 1}
    POST /_sim/down, /_sim/up  {"running": true}
    POST /_sim/clear           forgets the record and the faults
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles.base import document
from tests.doubles.providers import faults

if TYPE_CHECKING:
    from tests.doubles.providers.base import Provider

PREFIX = "/_sim/"
_MAKERS = {
    maker.__name__: maker
    for maker in (
        faults.refuse,
        faults.hang,
        faults.cut,
        faults.broken,
        faults.unfinished,
        faults.undone,
        faults.unmetered,
        faults.slow,
    )
}


def close(transport: asyncio.Transport | None, reset: bool) -> None:
    """`reset`: by RST, which SO_LINGER of 0 makes of a close (socket(7))."""
    if transport is None:
        return
    found = transport.get_extra_info("socket")
    if reset and found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def routes(sim: Provider) -> list[web.RouteDef]:
    made = _Control(sim)
    return [
        web.get(f"{PREFIX}record", made.record),
        *(
            web.post(PREFIX + name, getattr(made, name))
            for name in ("wait", "pace", "faults", "limits", "down", "up", "clear")
        ),
    ]


class _Control:
    def __init__(self, sim: Provider) -> None:
        self._sim = sim

    async def record(self, request: web.Request) -> web.Response:
        record = self._sim.record
        told = {"counters": record.counters(), "used": asdict(record.used())}
        return document({**told, "requests": [one.told() for one in record.requests]})

    async def wait(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        try:
            if "seen" in asked:
                await self._sim.seen(asked["seen"])
            if asked.get("quiet"):
                await self._sim.quiet()
        except TimeoutError as late:
            return document({"error": str(late)}, 504)
        return self._counters()

    async def pace(self, request: web.Request) -> web.Response:
        for name, value in (await _asked(request)).items():
            if name in ("may_answer", "may_generate"):
                event = getattr(self._sim.pace, name)
                event.set() if value else event.clear()
            else:
                setattr(self._sim.pace, name, value)
        return self._counters()

    async def faults(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        fits = {name: asked.pop(name) for name in ("model", "path", "times") if name in asked}
        self._sim.faults.add(_MAKERS[asked.pop("make")](**asked), **fits)
        return self._counters()

    async def limits(self, request: web.Request) -> web.Response:
        self._sim.limits.set(**await _asked(request))
        return self._counters()

    async def down(self, request: web.Request) -> web.Response:
        await self._sim.down(**await _asked(request))
        return self._counters()

    async def up(self, request: web.Request) -> web.Response:
        await self._sim.up()
        return self._counters()

    async def clear(self, request: web.Request) -> web.Response:
        self._sim.record.clear()
        self._sim.faults.clear()
        return self._counters()

    def _counters(self) -> web.Response:
        return document(self._sim.record.counters())


async def _asked(request: web.Request) -> dict[str, Any]:
    return dict(await request.json()) if request.can_read_body else {}

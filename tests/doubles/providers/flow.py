"""An answer on its way: generated at the simulator's pace, struck by its fault, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles.base import document, stream
from tests.doubles.providers.base import EXCHANGE, FAULT, Provider
from tests.doubles.providers.faults import Refused

EVENTS = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class Piece:
    """One event: the tokens it stands for, their text, and its bytes. `steps`: how many tokens'
    time it takes, where that is not `tokens`: nobody waits for each token of a picture."""

    tokens: int
    text: str
    raw: bytes = b""
    steps: int | None = None
    images: int = 0


@dataclass(slots=True)
class Flow:
    """The parts of an answer. `tail`: finish reason and usage; `done`: what closes the stream.
    `error`: the event for a fault in the middle; bytes without events can only be cut. `whole`:
    the document, if it is not streamed."""

    pieces: list[Piece]
    head: bytes = b""
    tail: bytes = b""
    done: bytes = b""
    error: Callable[[Refused], bytes] | None = None
    whole: Callable[[], Any] | None = None
    content_type: str = EVENTS
    headers: dict[str, str] = field(default_factory=dict)


async def send(sim: Provider, request: web.Request, flow: Flow, prompt: int) -> web.StreamResponse:
    """`prompt`: tokens of the input, which are used from here on. Raises Refused."""
    used = request[EXCHANGE].used
    used.input, used.cached = prompt, min(sim.pace.cached, prompt)
    if flow.whole is not None:
        return await _whole(sim, request, flow)
    return await _streamed(sim, request, flow)


async def _streamed(sim: Provider, request: web.Request, flow: Flow) -> web.StreamResponse:
    response = await stream(request, flow.content_type)
    exchange = request[EXCHANGE]
    exchange.status = response.status
    await response.write(flow.head)
    for at in range(len(flow.pieces) + 1):
        if await _struck(sim, request, response, flow, at):
            return response
        if at == 0:
            await _think(sim, request)
        if at < len(flow.pieces):
            await _make(sim, request, flow.pieces[at], at)
            await response.write(flow.pieces[at].raw)
    exchange.end("finished")  # before the client can know it
    await response.write(flow.tail + (flow.done if request[FAULT].done else b""))
    await response.write_eof()
    return response


async def _struck(
    sim: Provider, request: web.Request, response: web.StreamResponse, flow: Flow, at: int
) -> bool:
    """Whether the fault ended it here, before the piece at `at`."""
    fault, exchange = request[FAULT], request[EXCHANGE]
    said = exchange.used.output - exchange.used.reasoning
    last = at == len(flow.pieces)
    if fault.act == "answer" or fault.after is None or (said < fault.after and not last):
        return False
    if fault.act == "hang":
        await asyncio.Event().wait()
    if fault.act == "cut" or (fault.act == "error" and flow.error is None):
        rest = flow.tail if last else flow.pieces[at].raw
        if fault.inside:
            await response.write(rest[: len(rest) // 2])
        await sim.break_off(request, fault)
    if fault.act == "error" and flow.error is not None:
        await response.write(flow.error(fault.refusal()))
    exchange.end("broken" if fault.act == "error" else "cut")
    await response.write_eof()
    return True


async def _whole(sim: Provider, request: web.Request, flow: Flow) -> web.StreamResponse:
    fault, exchange = request[FAULT], request[EXCHANGE]
    assert flow.whole is not None
    await _think(sim, request)
    for at, piece in enumerate(flow.pieces):
        said = exchange.used.output - exchange.used.reasoning
        if fault.after is not None and said >= fault.after:
            break
        await _make(sim, request, piece, at)
    if fault.act == "hang":
        await asyncio.Event().wait()
    if fault.act == "error":
        raise fault.refusal()
    made = flow.whole()
    response = made if isinstance(made, web.Response) else document(made)
    response.headers.update(flow.headers)
    return await _clipped(sim, request, response) if fault.act in ("cut", "end") else response


async def _clipped(
    sim: Provider, request: web.Request, response: web.Response
) -> web.StreamResponse:
    """Half of a body: under its whole length and a cut connection, or as if it were all."""
    fault, body = request[FAULT], response.body
    assert isinstance(body, bytes)
    half = body[: len(body) // 2]
    if fault.act == "end":
        request[EXCHANGE].end("cut")
        return web.Response(body=half, headers={"Content-Type": response.headers["Content-Type"]})
    out = web.StreamResponse(headers={"Content-Type": response.headers["Content-Type"]})
    out.content_length = len(body)
    await out.prepare(request)
    await out.write(half)
    await sim.break_off(request, fault)
    return out


async def _think(sim: Provider, request: web.Request) -> None:
    await sim.pace.first()
    used = request[EXCHANGE].used
    if sim.pace.reasoning:
        await sim.pace.token(sim.pace.reasoning, True)
        used.reasoning = sim.pace.reasoning
        used.output += sim.pace.reasoning


async def _make(sim: Provider, request: web.Request, piece: Piece, at: int) -> None:
    await sim.pace.token(piece.tokens if piece.steps is None else piece.steps, at > 0)
    exchange = request[EXCHANGE]
    exchange.used.output += piece.tokens
    exchange.used.images += piece.images
    exchange.pieces.append(piece.text)
    sim.record.changed()

"""Requests that engines are sent, which are parsed and written several times on their way.

A large one is parsed once, in pieces, so that the other slots of the worker are served meanwhile,
and what it stands for is kept for as long as it is prepared. Nobody changes that in place below its
first level.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import orjson

from schemas.api import piecewise, piecewise_write
from schemas.api.piecewise import LARGE

_KNOWN: ContextVar[tuple[tuple[bytes, Any], ...]] = ContextVar("known", default=())
"""Large requests of this task, and what they stand for."""


async def know(body: bytes) -> None:
    """Parse a large request, so that `load` has it. One that is none, `load` says."""
    with suppress(ValueError):
        _KNOWN.set((*_KNOWN.get(), (body, await piecewise.load(body))))


def forget() -> None:
    """The request is on its way."""
    _KNOWN.set(())


def load(body: bytes) -> Any:
    """What orjson gives."""
    for known, found in _KNOWN.get():
        if known is body:
            return {**found} if isinstance(found, dict) else found
    return orjson.loads(body)


def write(request: dict[str, Any], like: bytes) -> bytes:
    """The bytes of a request that is made of the request `like`. Raises orjson.JSONEncodeError."""
    body = orjson.dumps(request)
    if len(like) > LARGE:
        _KNOWN.set((*_KNOWN.get(), (body, request)))
    return body


async def written(request: dict[str, Any], like: bytes | None = None) -> bytes:
    """The same, in pieces if it is large."""
    if like is not None and len(like) <= LARGE:
        return orjson.dumps(request)
    body = await piecewise_write.dump(request)
    if len(body) > LARGE:
        _KNOWN.set((*_KNOWN.get(), (body, request)))
    return body


async def pause(body: bytes) -> None:
    """Others have their turn between two steps with a large request."""
    if len(body) > LARGE:
        await asyncio.sleep(0)

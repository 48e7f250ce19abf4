"""An ASGI application behind the ingress' HTTP protocol, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from ingress.http.protocol import protocol

HEAD = 4096
"""Bytes that the head of a request may have."""


@asynccontextmanager
async def served(
    app: Any, kind: Any = None, ws: Any = "none"
) -> AsyncIterator[tuple[int, ServerState]]:
    """Its port, and what uvicorn knows of its connections. `kind`: of protocol, if not the plain
    one; `ws`: of WebSockets. What is left of them is cut."""
    kind = kind or protocol(HEAD)
    config = uvicorn.Config(
        app, http=kind, ws=ws, lifespan="off", log_config=None, access_log=False
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1], state
    for connection in list(state.connections):
        connection.transport.abort()
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    server.close()
    await server.wait_closed()

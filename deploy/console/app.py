"""The console as one ASGI app: NiceGUI's pages, behind the door and with a way to sign in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog
from fastapi import FastAPI
from nicegui import Client, app, ui
from starlette.types import ASGIApp

from deploy import home
from deploy.console import frame, menu
from deploy.console.crowd import Crowd
from deploy.console.door import SIGN_IN, Door
from deploy.console.edge import Doorway, Edge
from deploy.console.feed import Feed
from deploy.console.guard import Guard
from deploy.console.pages import (
    compatibility,
    keys,
    nodes,
    overview,
    playground,
    requests,
    usage,
)
from deploy.console.roll import Roll
from deploy.console.session import Session, is_still_good
from deploy.console.sign_in import SignIn
from deploy.console.signin import Sessions
from deploy.console.watch import MOST
from schemas.settings import Console, SettingsError
from schemas.watched import watched

log = structlog.get_logger("console")

ASSETS = "/console-assets"
_SWEEP = 30.0
"""Seconds between two looks for sessions whose time is over, or whose key is not taken any more."""
_REMEMBER = 10.0
"""Seconds between two looks at requests while nobody looks."""
_FAREWELL = 1.0
"""Seconds that a page has to go where it is sent, before its socket is closed."""
_PAGES = (
    (menu.OVERVIEW, overview.build),
    (menu.REQUESTS, requests.build),
    (menu.PLAYGROUND, playground.build),
    (menu.COMPATIBILITY, compatibility.build),
    (menu.KEYS, keys.build),
    (menu.USAGE, usage.build),
)


def make(
    settings: Console, data: Path, port: int, doorway: Doorway, feed: Feed, roll: Roll
) -> ASGIApp:
    """The app of this process, which there is once: NiceGUI knows one. `port`: where it listens."""
    cookie = f"headrace_console_{port}"  # browsers send cookies to all ports of a host
    sessions = Sessions[Session](time.monotonic, lambda session: _ended(door, session))

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with doorway.open(), feed.running():
            tasks = [
                asyncio.create_task(watched("console", partial(_sweep, sessions, door))),
                asyncio.create_task(watched("console", partial(_remember, data, doorway, feed))),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await roll.close()

    secure = settings.public_url.startswith("https:")
    signing = SignIn(data, sessions, doorway, feed, cookie, secure, time.monotonic)
    outer = FastAPI(lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    outer.router.routes.extend(signing.routes())
    _pages(outer, roll)
    door = Door(
        Crowd(outer, _pages_of), Guard.of(settings.public_url), sessions, cookie, _session_of
    )
    return door


def _pages(outer: FastAPI, roll: Roll) -> None:
    for entry, build in (*_PAGES, (menu.NODES, nodes.Nodes(roll).build)):
        frame.page(entry.path, entry.title)(build)
    app.add_static_files(ASSETS, Path(__file__).parent / "assets")
    for sheet in ("console", "data", "work"):
        ui.add_head_html(f'<link rel="stylesheet" href="{ASSETS}/{sheet}.css">', shared=True)
    # A bar that comes and goes with each request in the background says nothing here.
    app.config.quasar_config["loadingBar"]["skipHijack"] = True
    ui.run_with(
        outer,
        title="Headrace",
        language="en-US",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=100,
        reconnect_timeout=10.0,
        show_welcome_message=False,
    )


def _session_of(client_id: str) -> Session | None:
    """Whose an open page is."""
    client = Client.instances.get(client_id)
    return client.request.scope.get(frame.SESSION) if client is not None else None


def _pages_of(session: Session) -> list[Client]:
    """All that are open with the key of a session."""
    found = [(client, client.request.scope.get(frame.SESSION)) for client in _clients()]
    return [client for client, of in found if of is not None and of.key == session.key]


def _clients() -> list[Client]:
    return list(Client.instances.values())


def _ended(door: Door, session: Session) -> None:
    """Send the open pages of a session to where one signs in. What they send is dropped at once."""
    door.deafen(session)
    clients = [each for each in _clients() if each.request.scope.get(frame.SESSION) is session]
    for client in clients:
        client.open(SIGN_IN)

    def close() -> None:
        door.shut(session)
        for client in clients:
            if not client.is_deleted:
                client.delete()

    asyncio.get_running_loop().call_later(_FAREWELL, close)


async def _remember(data: Path, doorway: Doorway, feed: Feed) -> None:
    """Follow requests with the console's own key while nobody looks, too: the last hour is there
    when somebody does."""
    while True:
        with contextlib.suppress(OSError, SettingsError):
            if (key := home.found_console_key(data)) is not None:
                await feed.watches.of(Edge(doorway, key), most=MOST).look()
        await asyncio.sleep(_REMEMBER)


async def _sweep(sessions: Sessions[Session], door: Door) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        for session in door.in_use():
            sessions.touch(session)
        sessions.sweep()
        known = list(sessions)
        for session, good in zip(
            known, await asyncio.gather(*map(is_still_good, known)), strict=True
        ):
            if not good:
                log.info("console.key_gone", key=session.name)
                sessions.close(session)

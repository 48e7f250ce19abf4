"""``headrace console``: the process with the pages for a browser, and links that sign in."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog
import uvicorn

from deploy import edge, home, plan
from deploy.configure import CommandFailed, Unreachable
from deploy.console import guard, library, links, listener
from deploy.console.edge import AWAY, Doorway, EdgeFault
from deploy.console.feed import Feed
from deploy.console.roll import Roll
from deploy.survey import connected
from ingress.http.listeners import bound, port_of
from schemas import subjects
from schemas.bus import BusError
from schemas.settings import Nats, Settings, SettingsError

log = structlog.get_logger("console")

_HERE = 5.0
"""Seconds for a console of this machine to answer."""
_LEAVE = 1
"""Seconds for open connections to end."""
_MOST_TASKS = 2 * listener.MOST


async def run(settings: Settings, data: Path) -> None:
    """Serve until told to stop. Raises ListenFailed, SettingsError."""
    library.need()
    from deploy.console import app

    console = settings.console
    home.make(data)
    with contextlib.ExitStack() as stack:
        sockets = bound(console.host, console.port, stack, what="console")
        port = port_of(sockets)
        url = plan.url_of(console.host, port)
        doorway = Doorway(lambda: _ingress(settings))
        made = app.make(console, data, port, doorway, Feed(settings), Roll(settings.nats))
        stack.enter_context(links.told(data, guard.origin_of(console.public_url) or url, url))
        if not console.is_loopback and not console.public_url:
            log.warning("console.open", host=console.host)
        server = _Server(
            uvicorn.Config(
                made,
                log_config=None,
                access_log=False,  # it would have the tokens of links
                server_header=False,
                proxy_headers=False,  # who may say it is another address is nobody here
                ws="websockets-sansio",
                ws_max_size=4 * 2**20,
                limit_concurrency=_MOST_TASKS,
                http=listener.made(bool(console.public_url)),
                timeout_graceful_shutdown=_LEAVE,
            ),
            lambda: log.info("console.listening", url=url),
        )
        await server.serve(sockets)


async def link(data: Path) -> str:
    """A new link that signs in once. Raises CommandFailed."""
    url, here = links.address(data) or ("", "")
    if not url or not await _listens(here):
        raise CommandFailed(
            f"no console runs on {data}: start one with 'headrace up' or 'headrace console', or "
            "name its data directory with --data"
        )
    try:
        if home.found_console_key(data) is None:
            raise CommandFailed(
                f"{data} has no key of the console, as 'headrace up' makes one: open {url} and "
                "sign in with an API key"
            )
        return url + links.path(links.make(data))
    except (OSError, SettingsError) as fault:
        raise CommandFailed(f"no link can be made in {data}: {fault}") from None


async def _listens(here: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HERE)) as http,
            http.get(f"{here}/healthz") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _ingress(settings: Settings) -> str:
    """Where an ingress is. Raises EdgeFault."""
    if settings.console.ingress_url:
        return settings.console.ingress_url
    login: Nats = settings.nats.now()
    try:
        async with connected(login, "headrace-console", subjects.INBOX_MONITOR) as bus:
            return await edge.first(bus, login.shown)
    except (BusError, CommandFailed, Unreachable) as fault:
        raise EdgeFault(AWAY, str(fault)) from None


class _Server(uvicorn.Server):
    """Ends at SIGTERM and SIGINT as the other processes do, with exit code 0."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listens()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_stop)
        yield

    def _told_to_stop(self) -> None:
        self.should_exit = True

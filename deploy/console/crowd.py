"""How many pages one key may have open: each takes 0.2 MB of the console, and 0.2 MB more once it
is looked at. Who reloads a page without end, or opens a thousand, is to harm nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.console.frame import SESSION
from deploy.console.session import Session

MOST_OPEN = 64
"""Pages of one key in browsers."""
MOST_LOADED = 32
"""Pages of one key that no browser has opened its socket for, or whose socket is gone. The oldest
are dropped for new ones; a browser loads such a page anew."""
_NO_PAGES = ("/_nicegui", "/console-assets")
"""Paths below which there are none."""


class Page(Protocol):
    @property
    def created(self) -> float: ...

    @property
    def has_socket_connection(self) -> bool: ...

    def delete(self) -> None: ...


class Crowd:
    """`app`: with the pages. `pages`: those that the key of a session has."""

    def __init__(self, app: ASGIApp, pages: Callable[[Session], Sequence[Page]]) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session: Session | None = scope.get(SESSION)
        if session is None or scope["type"] != "http" or scope["path"].startswith(_NO_PAGES):
            await self._app(scope, receive, send)
            return
        if sum(page.has_socket_connection for page in self._pages(session)) >= MOST_OPEN:
            full = f"{MOST_OPEN} pages are open with this key already: close some, then try again."
            await PlainTextResponse(f"{full}\n", 429)(scope, receive, send)
            return
        await self._app(scope, receive, send)
        loaded = [page for page in self._pages(session) if not page.has_socket_connection]
        for page in sorted(loaded, key=lambda page: page.created)[:-MOST_LOADED]:
            page.delete()

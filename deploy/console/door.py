"""All that comes from outside passes here before it reaches a page: is it for us, and who asks?"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.console.frame import SESSION, SIGN_OUT
from deploy.console.guard import SAFE, Barred, Guard
from deploy.console.session import Session
from deploy.console.signin import Sessions

OPEN = re.compile("/healthz|/sign-in|/in/[^/]+")
"""Paths that need no session."""
SIGN_IN = "/sign-in"
MOST_BODY = 64 * 2**20
"""Bytes of one upload."""
MOST_SOCKETS = 128
"""WebSockets of one key: one for each page that is open, and for a moment two."""
_HEADERS = {
    # NiceGUI's page has inline scripts, and compiles templates of Vue in the browser.
    "content-security-policy": "default-src 'none'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    # Not "no-referrer": browsers would name no origin for forms then.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_SOCKETS = "/_nicegui_ws/"
_OF_PAGE = re.compile("/_nicegui/client/([^/]+)")
"""Where one page takes files, by its id."""
_STRIPPED = (b"x-forwarded-prefix",)
"""Headers that NiceGUI would put into its pages."""


class Door:
    """`app`: what is behind it. `cookie`: the name of the one with a session's id. `whose`: whose
    page it is that has this id."""

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        sessions: Sessions[Session],
        cookie: str,
        whose: Callable[[str], Session | None],
    ) -> None:
        self.app = app
        self._guard = guard
        self._sessions = sessions
        self._cookie = cookie
        self._whose = whose
        self._sockets: dict[Session, set[asyncio.Event]] = {}
        self._deaf: set[Session] = set()

    def deafen(self, session: Session) -> None:
        """Drop what comes from the pages of a session that has ended; they are told things yet."""
        if session in self._sockets:
            self._deaf.add(session)

    def shut(self, session: Session) -> None:
        """Close all WebSockets of a session."""
        for socket in self._sockets.pop(session, ()):
            socket.set()

    def in_use(self) -> list[Session]:
        """Sessions with a page that is open."""
        return list(self._sockets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            session = self._let_in(scope)
        except Barred as why:
            await _answer(PlainTextResponse(f"{why}\n", why.status), scope, receive, send)
            return
        if session is None and not OPEN.fullmatch(scope["path"]):
            await _answer(_to_sign_in(scope), scope, receive, send)
            return
        if session is not None and self._is_of_another(scope, session):
            await _answer(PlainTextResponse("This page is another's.\n", 403), scope, receive, send)
            return
        if session is not None and scope["type"] == "websocket" and self._is_full(session):
            await _answer(PlainTextResponse("Too many pages.\n", 429), scope, receive, send)
            return
        if session is not None:
            scope[SESSION], scope[SIGN_OUT] = session, lambda: self._sessions.close(session)
        if scope["type"] == "websocket":
            assert session is not None
            await self._socket(session, scope, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, body = False, _Body(receive)

        async def sent(message: Message) -> None:
            nonlocal began
            if began or not body.too_large:  # what is behind says 400 or 500 of such a body
                began = True
                await send(message)

        with contextlib.suppress(_TooLarge):
            await self.app(scope, body.receive, _with_headers(sent))
        if body.too_large and not began:
            large = PlainTextResponse(f"More than {MOST_BODY} bytes.\n", 413)
            await _answer(large, scope, receive, send)

    def _let_in(self, scope: Scope) -> Session | None:
        """Raises Barred."""
        headers = Headers(scope=scope)
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE
        self._guard.check(headers, changes=changes)
        scope["headers"] = [each for each in scope["headers"] if each[0] not in _STRIPPED]
        id = _cookie(headers.get("cookie", ""), self._cookie)
        return self._sessions.find(id) if id else None

    def _is_of_another(self, scope: Scope, session: Session) -> bool:
        """Whether it is the socket of a page that another session opened, or a path of one. A page
        that is no more counts as nobody's: NiceGUI has its browser load it anew. A socket that
        names no page could ask for any later on."""
        if named := _OF_PAGE.match(scope["path"]):
            owner = self._whose(named[1])
            return owner is not None and owner is not session
        (id,) = parse_qs(scope["query_string"].decode("latin-1")).get("client_id", [""])[:1]
        if not id:
            return bool(scope["path"].startswith(_SOCKETS))
        owner = self._whose(id)
        return owner is not None and owner is not session

    def _is_full(self, session: Session) -> bool:
        mine = (len(each) for of, each in self._sockets.items() if of.key == session.key)
        return sum(mine) >= MOST_SOCKETS

    async def _socket(self, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, until it or its session ends."""
        over = asyncio.Event()
        self._sockets.setdefault(session, set()).add(over)
        try:
            heard = _until(over, receive, lambda: session in self._deaf)
            await self.app(scope, heard, _quiet(over, send))
            if over.is_set():
                with contextlib.suppress(Exception):  # the other side may have closed it just now
                    await send({"type": "websocket.close", "code": 1008})
        finally:
            sockets = self._sockets.get(session, set())
            sockets.discard(over)
            if not sockets:
                self._sockets.pop(session, None)
                self._deaf.discard(session)


class _TooLarge(Exception):
    pass


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _to_sign_in(scope: Scope) -> Response:
    """Where one who is not signed in is sent, if he looks at a page."""
    accepts = Headers(scope=scope).get("accept", "")
    if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in accepts:
        return RedirectResponse(SIGN_IN, 303, {"cache-control": "no-store"})
    return PlainTextResponse(f"Sign in first, at {SIGN_IN}\n", 401)


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await response(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


class _Body:
    """What comes of a request. `too_large`: its body has too many bytes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._had = 0
        self.too_large = False

    async def receive(self) -> Message:
        """Raises _TooLarge."""
        if self.too_large:
            raise _TooLarge
        message = await self._receive()
        self._had += len(message.get("body", b""))
        if self._had > MOST_BODY:
            self.too_large = True
            raise _TooLarge
        return message


def _until(over: asyncio.Event, receive: Receive, deaf: Callable[[], bool]) -> Receive:
    """What comes, until `over`: that is the end then. Nothing that comes while `deaf`."""

    async def received() -> Message:
        while True:
            message = await next_one()
            if message["type"] != "websocket.receive" or not deaf():
                return message

    async def next_one() -> Message:
        ending = asyncio.ensure_future(over.wait())
        coming: asyncio.Future[Any] = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({ending, coming}, return_when=asyncio.FIRST_COMPLETED)
            if over.is_set():
                return {"type": "websocket.disconnect", "code": 1008}
            message: Message = coming.result()
            return message
        finally:
            for each in (ending, coming):
                each.cancel()

    return received


def _quiet(over: asyncio.Event, send: Send) -> Send:
    """Nothing is sent once it is over."""

    async def sent(message: Message) -> None:
        if not over.is_set():
            await send(message)

    return sent

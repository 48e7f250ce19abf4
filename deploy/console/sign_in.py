"""How one signs in: by a link that is good once, or by a key. Its pages have no scripts."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from deploy import home
from deploy.console import links
from deploy.console.edge import AWAY, Doorway, Edge, EdgeFault
from deploy.console.feed import Feed
from deploy.console.session import Session, holder
from deploy.console.signin import LONGEST, Sessions
from ingress.http.attempts import FailedAttempts
from schemas.errors import TooManyAttempts
from schemas.keys import SCOPES
from schemas.settings import SettingsError

log = structlog.get_logger("console")

ATTEMPTS = 10
"""Failed attempts of one address in a minute, with keys and with links alike. They are fewer than
an ingress allows the console itself."""
_TOKEN = re.compile("[A-Za-z0-9_-]{22}")
_MOST_KEY = 1024
_MOST_FORM = 4096
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 12vh auto 0; max-width: 26rem; padding: 0 1rem; }
label { display: block; margin-top: 1.5rem; }
input, button { box-sizing: border-box; font: inherit; padding: .6rem; width: 100%; }
button { background: #0b5c8a; border: 0; border-radius: .3rem; color: #fff; cursor: pointer;
  margin-top: 1rem; }
code { font-family: ui-monospace, monospace; }
[role=alert] { border-left: .3rem solid #b3261e; padding-left: .8rem; }
"""  # noqa: E501


class SignIn:
    """`cookie`: its name; `secure`: it is for HTTPS alone; `data`: where links and the console's
    own key are."""

    def __init__(
        self,
        data: Path,
        sessions: Sessions[Session],
        doorway: Doorway,
        feed: Feed,
        cookie: str,
        secure: bool,
        clock: Callable[[], float],
    ) -> None:
        self._data = data
        self._sessions = sessions
        self._doorway = doorway
        self._feed = feed
        self._cookie = cookie
        self._secure = secure
        self._attempts = FailedAttempts(ATTEMPTS, clock)

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", _alive),
            Route("/sign-in", self._form, methods=["GET"]),
            Route("/sign-in", self._by_key, methods=["POST"]),
            Route("/in/{token}", self._by_link, methods=["GET"]),
        ]

    async def _form(self, request: Request) -> Response:
        return _page(_FORM, 200)

    async def _by_key(self, request: Request) -> Response:
        key = await _key(request)
        return await self._counted(request, lambda: self._session_of(key))

    async def _by_link(self, request: Request) -> Response:
        if request.method != "GET":  # a HEAD would use the link up, and get nobody in
            return PlainTextResponse("GET it.\n", 405)
        token = request.path_params["token"]
        return await self._counted(request, lambda: self._session_by(token))

    async def _counted(
        self, request: Request, opening: Callable[[], Awaitable[Session | _Refused]]
    ) -> Response:
        """The answer to one attempt, unless there were too many of this address."""
        address = request.client.host if request.client else ""
        try:
            # Whom it has refused asks no ingress either: that would refuse the console soon.
            # It counts at once: many at the same time are many.
            self._attempts.failed(address)
            found = await opening()
            if isinstance(found, Session) or not found.counts:
                self._attempts.give_back(address)
            if isinstance(found, Session):
                self._attempts.passed(address, found.name)
                return self._entered(found)
        except TooManyAttempts as why:
            said = "Too many attempts failed from this address: wait a minute, then try again."
            answer = _page(_said(said) + _FORM, 429)
            answer.headers["retry-after"] = str(round(why.retry_after or 1))
            return answer
        log.warning("console.refused", address=address, why=found.code)
        return _page(_said(found.message) + _FORM, found.status)

    async def _session_of(self, key: str) -> Session | _Refused:
        if not key:
            return _Refused("no_key", "Paste an API key.", 400, counts=False)
        edge = Edge(self._doorway, key)
        try:
            name, scopes = await holder(edge)
            return Session(name, scopes, edge, self._feed)
        except EdgeFault as fault:
            gone = fault.code == AWAY or fault.status >= 500
            said = f"The key cannot be checked now: {fault.message}" if gone else fault.message
            return _Refused(fault.code, said, 503 if gone else 403, counts=not gone)

    async def _session_by(self, token: str) -> Session | _Refused:
        try:
            key = home.found_console_key(self._data)
            fits = _TOKEN.fullmatch(token) is not None
            good = fits and await asyncio.to_thread(links.use, self._data, token)
        except (OSError, SettingsError) as fault:
            return _Refused("data", f"Links cannot be looked up: {fault}", 503, counts=False)
        if not good:
            return _Refused("link", _USED, 403, counts=True)
        if key is None:
            return _Refused("no_console_key", _NO_KEY, 403, counts=False)
        return Session("console", SCOPES, Edge(self._doorway, key), self._feed)

    def _entered(self, session: Session) -> Response:
        """Not a redirect: browsers would take that, after a link elsewhere, for one of theirs, and
        leave out the cookie that it sets."""
        answer = _page('<meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on</a>', 200)
        answer.set_cookie(
            self._cookie,
            self._sessions.open(session, session.key),
            max_age=round(LONGEST),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        log.info("console.signed_in", key=session.name)
        return answer


class _Refused:
    def __init__(self, code: str, message: str, status: int, *, counts: bool) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.counts = counts


_USED = (
    "This link was used before, or its ten minutes are over. 'headrace console link' prints a "
    "new one."
)
_NO_KEY = (
    "There is no key of the console in this data directory, as 'headrace up' makes one: sign in "
    "with an API key."
)
_FORM = """<form method="post" action="/sign-in">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="off" required autofocus>
<button type="submit">Sign in</button></form>
<p>A key with the scope <code>admin</code> sees everything, another one its own. On the machine of
<code>headrace up</code>, <code>headrace console link</code> prints a link that needs no key.</p>"""


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _key(request: Request) -> str:
    """The key of the form; "" if it has none that may be one."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_FORM:
            return ""
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=4)
    except ValueError:  # more of them than that
        return ""
    said = fields.get("key", [""])[0].strip()
    fits = len(said) <= _MOST_KEY and said.isascii() and said.isprintable()
    return said if fits else ""


def _said(text: str) -> str:
    return f'<p role="alert">{html.escape(text)}</p>'


def _page(body: str, status: int) -> Response:
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · Headrace</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><main><h1>Headrace</h1>{body}</main></body></html>
""",
        status,
        _HEADERS,
    )

"""The door before the pages, with an app behind it that tells what reaches it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.console.door import MOST_BODY, MOST_SOCKETS, Door
from deploy.console.edge import Doorway, Edge
from deploy.console.feed import Feed
from deploy.console.frame import SESSION
from deploy.console.guard import Guard
from deploy.console.session import Session
from deploy.console.signin import Sessions

_CLOSED = (
    *("/_nicegui/x/static/nicegui.js", "/healthzz", "/in", "/in/a/b", "/in/a/", "/sign-in/x"),
    *("/requests", "/healthz/x", "/in/", "/in/x\n/y"),
)
COOKIE = "headrace_console_8480"
OWN = {"host": "127.0.0.1:8480"}
POSTED = {**OWN, "origin": "http://127.0.0.1:8480"}


def session(key: str = "sk-alice") -> Session:
    edge = Edge(Doorway(_nowhere), key)
    return Session("alice", ("inference",), edge, object.__new__(Feed))


async def _nowhere() -> str:
    raise AssertionError("no ingress is asked")


class Behind:
    """What is behind the door."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.body = b""
        self.heard: list[Message] = []
        self.listens = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self.listens.set()
            self.heard.append(await receive())
            return
        while (message := await receive()).get("more_body"):
            self.body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})


class Setup:
    def __init__(self, app: ASGIApp | None = None) -> None:
        self.behind = Behind()
        self.sessions = Sessions[Session](lambda: 0.0, lambda ended: None)
        self.pages: dict[str, Session] = {}
        guard = Guard()
        self.door = Door(app or self.behind, guard, self.sessions, COOKIE, self.pages.get)
        self.sent: list[Message] = []
        self.coming: Receive | None = None

    async def ask(
        self,
        path: str = "/",
        headers: dict[str, str] = OWN,
        *,
        kind: str = "http",
        method: str = "GET",
        id: str = "",
        query: str = "",
        body: list[bytes] | None = None,
    ) -> int:
        """The status; of a WebSocket that was not let in, the code by which it was closed."""
        given = {**headers, **({"cookie": f"{COOKIE}={id}"} if id else {})}
        raw = [(k.encode(), v.encode()) for k, v in given.items()]
        scope: dict[str, Any] = {"type": kind, "path": path, "headers": raw, "method": method}
        scope["query_string"] = query.encode()
        pieces = iter(body or [])

        async def receive() -> Message:
            if kind == "websocket":
                if not self.behind.listens.is_set():
                    return {"type": "websocket.connect"}
                await asyncio.Event().wait()
            piece = next(pieces, None)
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.door(scope, self.coming or receive, send)
        first = self.sent[0] if self.sent else {}
        return int(first.get("status", first.get("code", 0)))

    def header(self, name: str) -> str:
        found = dict(self.sent[0]["headers"])
        return str(found.get(name.encode(), b"").decode())


@pytest.fixture
def setup() -> Setup:
    return Setup()


async def test_who_is_not_signed_in_is_sent_to_sign_in(setup: Setup) -> None:
    assert await setup.ask(headers={**OWN, "accept": "text/html"}) == 303
    assert setup.header("location") == "/sign-in"
    assert setup.behind.scopes == []


@pytest.mark.parametrize("path", [*_CLOSED])
async def test_nothing_but_the_way_in_is_served_without_a_session(setup: Setup, path: str) -> None:
    assert await setup.ask(path) == 401
    assert setup.behind.scopes == []


@pytest.mark.parametrize("path", ["/healthz", "/sign-in", "/in/abc"])
async def test_the_way_in_is_open(setup: Setup, path: str) -> None:
    assert await setup.ask(path) == 200
    assert SESSION not in setup.behind.scopes[0]


async def test_a_page_gets_its_session(setup: Setup) -> None:
    here = session()
    assert await setup.ask(id=setup.sessions.open(here, "key")) == 200
    assert setup.behind.scopes[0][SESSION] is here


async def test_every_answer_is_bound_to_this_site(setup: Setup) -> None:
    for path in ("/healthz", "/"):
        setup.sent.clear()
        await setup.ask(path)
        assert "frame-ancestors 'none'" in setup.header("content-security-policy")
        assert setup.header("x-content-type-options") == "nosniff"
        assert setup.header("cross-origin-resource-policy") == "same-origin"


async def test_a_strangers_page_reaches_nothing_even_with_the_cookie(setup: Setup) -> None:
    id = setup.sessions.open(session(), "key")
    evil = {**OWN, "origin": "http://127.0.0.1:3000"}
    assert await setup.ask(headers={"host": "evil.example"}, id=id) == 421
    setup.sent.clear()
    assert await setup.ask(headers=evil, id=id, method="POST") == 403
    setup.sent.clear()
    assert await setup.ask(headers=evil, id=id, kind="websocket") == 1008
    assert setup.behind.scopes == []


async def test_a_socket_needs_a_session(setup: Setup) -> None:
    assert await setup.ask(headers=POSTED, kind="websocket") == 1008


async def test_nobody_opens_the_socket_of_anothers_page(setup: Setup) -> None:
    mine, theirs = session(), session()
    setup.pages["page-1"] = theirs
    id = setup.sessions.open(mine, "key")
    query = "client_id=page-1"
    assert await setup.ask(headers=POSTED, kind="websocket", id=id, query=query) == 1008
    assert setup.behind.scopes == []


async def test_nobody_sends_files_to_anothers_page(setup: Setup) -> None:
    mine, theirs = session(), session()
    setup.pages.update({"page-1": theirs, "page-2": mine})
    id = setup.sessions.open(mine, "key")
    path = "/_nicegui/client/page-{}/upload/7"
    assert await setup.ask(path.format(1), POSTED, method="POST", id=id) == 403
    assert setup.behind.scopes == []
    setup.sent.clear()
    assert await setup.ask(path.format(2), POSTED, method="POST", id=id) == 200


async def test_a_socket_says_at_once_for_which_page_it_is(setup: Setup) -> None:
    """NiceGUI would let one that says nothing ask for any page's events later."""
    id = setup.sessions.open(session(), "key")
    for query in ("", "client_id="):
        setup.sent.clear()
        path = "/_nicegui_ws/socket.io/"
        said = await setup.ask(path, POSTED, kind="websocket", id=id, query=query)
        assert said == 1008
    assert setup.behind.scopes == []


async def test_the_sockets_of_one_key_are_bounded(setup: Setup) -> None:
    mine, again, other = session(), session(), session("sk-bob")
    ids = {each: setup.sessions.open(each, each.key) for each in (mine, again, other)}
    for _ in range(MOST_SOCKETS):
        setup.door._sockets.setdefault(mine, set()).add(asyncio.Event())
    assert await setup.ask(headers=POSTED, kind="websocket", id=ids[again]) == 1008
    assert setup.behind.scopes == []
    open_page = asyncio.create_task(setup.ask(headers=POSTED, kind="websocket", id=ids[other]))
    await setup.behind.listens.wait()
    setup.door.shut(other)
    await open_page


async def test_the_sockets_of_a_session_end_with_it(setup: Setup) -> None:
    here = session()
    id = setup.sessions.open(here, "key")
    open_page = asyncio.create_task(setup.ask(headers=POSTED, kind="websocket", id=id))
    await setup.behind.listens.wait()
    assert setup.door.in_use() == [here]
    setup.door.shut(here)
    await open_page
    assert setup.behind.heard == [{"type": "websocket.disconnect", "code": 1008}]
    assert setup.sent[-1] == {"type": "websocket.close", "code": 1008}
    assert setup.door.in_use() == []


async def test_nothing_is_heard_of_a_session_that_has_ended(setup: Setup) -> None:
    here = session()
    id = setup.sessions.open(here, "key")
    coming: asyncio.Queue[Message] = asyncio.Queue()
    coming.put_nowait({"type": "websocket.connect"})
    setup.coming = coming.get
    open_page = asyncio.create_task(setup.ask(headers=POSTED, kind="websocket", id=id))
    await setup.behind.listens.wait()
    setup.door.deafen(here)
    coming.put_nowait({"type": "websocket.receive", "text": "a click"})
    coming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await open_page
    assert setup.behind.heard == [{"type": "websocket.disconnect", "code": 1000}]
    assert not setup.door._deaf


async def test_a_body_that_is_too_large_is_not_read_to_its_end(setup: Setup) -> None:
    id = setup.sessions.open(session(), "key")
    piece = bytes(MOST_BODY // 4 + 1)
    assert await setup.ask(headers=POSTED, method="POST", id=id, body=[piece] * 5) == 413
    assert len(setup.behind.body) <= MOST_BODY


async def test_a_body_that_is_too_large_is_told_though_what_is_behind_has_its_own_word() -> None:
    """FastAPI says 500 of the exception by which the body ends."""
    app = FastAPI()

    @app.post("/raw")
    async def raw(request: Request) -> None:
        await request.body()

    setup = Setup(app)
    id = setup.sessions.open(session(), "key")
    body = [bytes(MOST_BODY // 2)] * 3
    assert await setup.ask("/raw", POSTED, method="POST", id=id, body=body) == 413
    types = [each["type"] for each in setup.sent]
    assert types == ["http.response.start", "http.response.body"]


async def test_a_prefix_that_a_client_names_is_in_no_page(setup: Setup) -> None:
    id = setup.sessions.open(session(), "key")
    await setup.ask(headers={**OWN, "x-forwarded-prefix": "//evil.example"}, id=id)
    assert b"x-forwarded-prefix" not in dict(setup.behind.scopes[0]["headers"])

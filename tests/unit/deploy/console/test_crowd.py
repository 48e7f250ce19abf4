"""How many pages one key may have open."""

from __future__ import annotations

from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from deploy.console.crowd import MOST_LOADED, MOST_OPEN, Crowd
from deploy.console.frame import SESSION


class Page:
    def __init__(self, created: float, seen: bool = False) -> None:
        self.created = created
        self.has_socket_connection = seen
        self.deleted = False

    def delete(self) -> None:
        self.deleted = True


class Behind:
    """Makes a page for each request."""

    def __init__(self) -> None:
        self.pages: list[Page] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pages.append(Page(float(len(self.pages))))
        await PlainTextResponse("page")(scope, receive, send)

    def open(self, _: object) -> list[Page]:
        return [page for page in self.pages if not page.deleted]

    async def ask(self, path: str = "/", **more: Any) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "path": path, "method": "GET", SESSION: object(), **more}
        await Crowd(self, self.open)(scope, receive, send)
        return int(sent[0]["status"])


async def test_pages_that_nobody_looks_at_are_bounded_and_the_newest_stay() -> None:
    behind = Behind()
    seen = Page(-1.0, seen=True)
    behind.pages.append(seen)
    for _ in range(MOST_LOADED + 5):
        assert await behind.ask() == 200
    assert behind.open(None) == [seen, *behind.pages[-MOST_LOADED:]]


async def test_pages_that_are_open_are_bounded_and_none_is_taken_away() -> None:
    behind = Behind()
    behind.pages += [Page(0.0, seen=True) for _ in range(MOST_OPEN)]
    assert await behind.ask() == 429
    assert len(behind.open(None)) == MOST_OPEN
    assert await behind.ask("/_nicegui/x/static/nicegui.js") == 200  # what an open page still loads
    behind.pages[0].has_socket_connection = False
    assert await behind.ask() == 200

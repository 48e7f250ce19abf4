"""How an ingress is asked, with a server that stands in for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.console import edge
from deploy.console.edge import AWAY, Doorway, Edge, EdgeFault
from deploy.console.feed import Feed
from deploy.console.session import Session, is_still_good
from tests import ports

KEY = "sk-headrace-secret"


class Ingress:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.answer = web.json_response({"name": "alice", "scopes": ["inference"]})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            (request.method, request.path_qs, request.headers.get("authorization", ""))
        )
        return self.answer


@pytest.fixture
def ingress() -> Ingress:
    return Ingress()


@pytest.fixture
async def asking(ingress: Ingress) -> AsyncIterator[Edge]:
    app = web.Application()
    app.router.add_route("GET", "/healthz", _well)
    app.router.add_route("*", "/{path:.*}", ingress.serve)
    async with TestServer(app) as server:

        async def find() -> str:
            return f"http://127.0.0.1:{server.port}/"

        doorway = Doorway(find)
        async with doorway.open():
            yield Edge(doorway, KEY)


async def _well(_: web.Request) -> web.Response:
    return web.Response()


async def refused(asking: Edge, path: str = "/v1/key") -> EdgeFault:
    with pytest.raises(EdgeFault) as why:
        await asking.get(path)
    return why.value


async def test_it_asks_with_the_key(asking: Edge, ingress: Ingress) -> None:
    found = await asking.get("/v1/requests", after=None, limit=3, mine=True)
    assert found["name"] == "alice"
    assert ingress.asked == [("GET", "/v1/requests?limit=3&mine=true", f"Bearer {KEY}")]


async def test_a_refusal_is_told_as_the_ingress_says_it(asking: Edge, ingress: Ingress) -> None:
    error = {"error": {"message": "Wait.", "type": "rate_limit", "code": "too_many"}}
    ingress.answer = web.json_response(error, status=429)
    fault = await refused(asking)
    assert (fault.code, fault.message, fault.status) == ("too_many", "Wait.", 429)


async def test_an_answer_has_a_bound(
    asking: Edge, ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "MOST_ANSWER", 2**20)
    text = "x" * (2**20 - 2)
    ingress.answer = web.json_response(text)
    assert await asking.get("/v1/models") == text
    ingress.answer = web.json_response(text + "x")
    fault = await refused(asking)
    why = "The answer is larger than 1 MiB. Ask for less at once."
    assert (fault.code, fault.message, fault.status) == ("too_large", why, 0)


@pytest.mark.parametrize("body", ["", "<html>", '{"error": "no"}', '{"error": {"code": null}}'])
async def test_what_is_no_ingress_is_told(asking: Edge, ingress: Ingress, body: str) -> None:
    ingress.answer = web.Response(status=502, text=body)
    assert (await refused(asking)).code == "not_ours"


async def test_a_redirect_is_not_followed_with_the_key(asking: Edge, ingress: Ingress) -> None:
    ingress.answer = web.Response(status=307, headers={"location": "http://evil.example/"})
    assert (await refused(asking)).status == 307


async def test_an_ingress_that_is_away_is_told() -> None:
    port = ports.free()

    async def find() -> str:
        return f"http://127.0.0.1:{port}"

    doorway = Doorway(find)
    async with doorway.open():
        fault = await refused(Edge(doorway, KEY))
    assert (fault.code, fault.status) == (AWAY, 0)
    assert KEY not in str(fault)


async def test_pages_that_ask_at_once_are_one_question() -> None:
    asked = []

    async def find() -> str:
        asked.append("where")
        await asyncio.sleep(0)
        return "http://127.0.0.1:9/"

    doorway = Doorway(find)
    found = await asyncio.gather(*(doorway.address() for _ in range(9)))
    assert (set(found), asked) == ({"http://127.0.0.1:9"}, ["where"])


async def test_where_it_is_not_found_it_is_not_looked_for_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def find() -> str:
        asked.append("where")
        await asyncio.sleep(0)
        raise EdgeFault(AWAY, "no ingress is connected")

    monkeypatch.setattr(edge, "AGAIN", 3600.0)
    doorway = Doorway(find)
    found = await asyncio.gather(*(doorway.address() for _ in range(9)), return_exceptions=True)
    assert {str(each) for each in found} == {"no ingress is connected"}
    assert asked == ["where"]
    monkeypatch.setattr(edge, "AGAIN", 0.0)
    with pytest.raises(EdgeFault):
        await doorway.address()
    assert asked == ["where", "where"]


async def test_a_refusal_in_pieces_is_read_whole() -> None:
    content = asyncio.StreamReader()
    reading = asyncio.create_task(edge._beginning(content, 2**16))  # type: ignore[arg-type]
    for piece in (b'{"error":', b' "no"}'):
        content.feed_data(piece)
        await asyncio.sleep(0)
    content.feed_eof()
    assert await reading == b'{"error": "no"}'


def test_a_name_is_one_part_of_a_path() -> None:
    assert edge.part("a/b?c") == "a%2Fb%3Fc"


@pytest.mark.parametrize(
    ("status", "scopes", "good"),
    [
        (200, ["inference"], True),
        (200, [], False),
        (200, ["inference", "admin"], False),
        (401, [], False),
        (403, [], False),
        (503, [], True),
    ],
)
async def test_a_session_is_good_while_its_key_is_what_it_was(
    asking: Edge, ingress: Ingress, status: int, scopes: list[str], good: bool
) -> None:
    ingress.answer = web.json_response({"name": "alice", "scopes": scopes}, status=status)
    session = Session("alice", ("inference",), asking, object.__new__(Feed))
    assert await is_still_good(session) is good

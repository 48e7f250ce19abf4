"""Whole answers in one write, beside those that uvicorn writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from ingress.http import whole
from ingress.http.body import Asked, read_body
from tests.unit import fakes
from tests.unit.ingress.http.served import served

BY_HAND: list[bool] = []
"""Whether each answer was written by `whole`."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(Request(scope, receive), 2**20)
    headers = {"x-request-id": "req-1", "content-type": "application/json", "x-more": "é"}
    response = Response(body, 201, headers)
    if scope["path"] == "/odd":
        response.raw_headers.append((b"x-odd", b"a\r\nx-own: b"))
    by_hand = scope["path"] != "/uvicorn" and whole.write(scope["state"], response)
    BY_HAND.append(by_hand)
    if not by_hand:
        await response(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    BY_HAND.clear()
    async with served(_app) as (port, _):
        yield port


def post(path: str, *headers: str, body: str = "abc") -> str:
    head = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "", body])


async def said(port: int, *requests: str) -> bytes:
    """All that comes until the connection ends, which the last of the `requests` asks for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("".join(requests).encode())
    async with asyncio.timeout(fakes.PATIENCE):
        found = await reader.read()
    writer.close()
    return found


LAST = post("/uvicorn", "connection: close", body="end")


async def test_it_is_what_uvicorn_writes(port: int) -> None:
    ours, uvicorns = [await said(port, post(path), LAST) for path in ("/whole", "/uvicorn")]
    assert ours == uvicorns
    assert BY_HAND == [True, False, False, False]


async def test_answers_come_in_the_order_of_their_requests(port: int) -> None:
    many = [post("/whole", body=f"<{number}>") for number in range(5)]
    found = await said(port, *many, LAST)
    assert [found.count(b"<%d>" % number) for number in range(5)] == [1] * 5
    assert sorted(range(5), key=lambda number: found.index(b"<%d>" % number)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("headers", ["connection: close", "expect: 100-continue"])
async def test_what_says_more_of_its_connection_is_left_to_uvicorn(port: int, headers: str) -> None:
    found = await said(port, post("/whole", headers), *([LAST] if "expect" in headers else []))
    assert b"abc" in found
    assert not BY_HAND[0]


async def test_no_header_begins_another(port: int) -> None:
    assert b"x-own" not in await said(port, post("/odd"), LAST)
    assert not any(BY_HAND)


async def test_of_several_headers_of_one_name_the_first_counts() -> None:
    pairs = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    headers = Asked({"type": "http", "headers": pairs}, _nobody, _nobody).headers
    assert (headers.get("a"), headers["A"], headers.get("c", "-"), "B" in headers) == (
        "1", "1", "-", True,
    )  # fmt: skip
    assert headers.getlist("a") == ["1", "3"]


async def _nobody(*_: Any) -> Any:
    raise AssertionError

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from ingress.http.body import need_json, read_body
from schemas.errors import BodyTooLarge, ClientGone, InvalidRequest


class Body:
    """An ASGI request whose pieces are counted as they are read."""

    def __init__(self, *pieces: bytes, length: str = "", gone: bool = False) -> None:
        self.read = 0
        self._pieces = pieces
        self._gone = gone
        headers = [(b"content-length", length.encode("latin-1"))] if length else []
        self.request = Request({"type": "http", "headers": headers}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if self.read == len(self._pieces):
            return {"type": "http.disconnect"}
        self.read += 1
        more = self.read < len(self._pieces) or self._gone
        return {"type": "http.request", "body": self._pieces[self.read - 1], "more_body": more}


@pytest.mark.parametrize("pieces", [(b"",), (b"12345",), (b"12", b"", b"345"), (b"x" * 10,)])
async def test_a_body_within_the_limit_is_read_whole(pieces: tuple[bytes, ...]) -> None:
    assert await read_body(Body(*pieces).request, 10) == b"".join(pieces)


async def test_a_body_that_announces_too_much_is_not_read() -> None:
    body = Body(b"x" * 11, length="11")
    with pytest.raises(BodyTooLarge, match="10 bytes"):
        await read_body(body.request, 10)
    assert body.read == 0


@pytest.mark.parametrize("length", ["", "5", "nonsense", "-1", "²"])
async def test_a_body_that_turns_out_too_large_is_not_read_on(length: str) -> None:
    body = Body(*[b"xxxx"] * 1000, length=length)
    with pytest.raises(BodyTooLarge):
        await read_body(body.request, 10)
    assert body.read == 3


async def test_a_client_that_leaves_within_its_body() -> None:
    with pytest.raises(ClientGone):
        await read_body(Body(b"xx", gone=True).request, 10)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/json",
        "application/JSON; charset=utf-8",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_may_come_under_any_name(kind: str) -> None:
    headers = [(b"content-type", kind.encode())] if kind else []
    need_json(Request({"type": "http", "headers": headers}))
    assert "multipart" not in kind


def test_a_form_is_refused() -> None:
    headers = [(b"content-type", b"Multipart/form-data; boundary=x")]
    with pytest.raises(InvalidRequest, match="Multipart/form-data"):
        need_json(Request({"type": "http", "headers": headers}))


async def test_a_byte_order_mark_is_no_part_of_the_body() -> None:
    assert await read_body(Body(b"\xef\xbb\xbf{}").request, 10) == b"{}"

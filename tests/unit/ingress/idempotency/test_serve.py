"""What tells one request under a key from another."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from ingress.idempotency.serve import _digest


def digest(content_type: str, body: bytes) -> bytes:
    headers = [(b"content-type", content_type.encode())]
    return _digest(Request({"type": "http", "path": "/v1/images/edits", "headers": headers}), body)


@pytest.mark.parametrize("way", ["boundary=%s", 'boundary="%s"', 'Boundary="%s"; charset=utf-8'])
def test_a_form_is_the_same_under_another_boundary(way: str) -> None:
    first, second = (
        digest(
            f"multipart/form-data; {way % mark}",
            b"--%b\r\n\r\nx\r\n--%b--" % (2 * (mark.encode(),)),
        )
        for mark in ("b-1", "b-2")
    )
    assert first == second


def test_what_is_no_form_is_taken_as_it_is() -> None:
    assert digest("application/json", b"a b") != digest("application/json; boundary=b", b"a ")

"""JSON as some servers write it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import sse
from schemas.api.loose_json import mended


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"a":NaN,"b":-Infinity,"c":[Infinity]}', {"a": None, "b": None, "c": [None]}),
        (rb'["\ud83d", "\ude00x", "\ud83d\ude00"]', ["\ufffd", "\ufffdx", "\U0001f600"]),
        (rb'["\\ud83d", NaN]', ["\\ud83d", None]),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
    ],
)
def test_it_is_read_and_mended(data: bytes, found: Any) -> None:
    assert sse.load(b"data: " + data) == found
    again = mended(data)
    assert again is not None
    assert orjson.loads(again) == found


@pytest.mark.parametrize("data", [b"{", b"<html>", b"{'a':1}", b"[1,]", b"1 2", b"[" * 9999])
def test_what_is_none_is_none(data: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        sse.load(b"data: " + data)
    assert mended(data) is None


def test_what_is_well_written_stays_as_it_is() -> None:
    assert mended(b'{"a": 1}') is None

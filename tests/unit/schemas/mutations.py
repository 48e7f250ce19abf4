"""Messages that were right, and then were changed as a broken or hostile sender might: bits flip,
an end is missing, something follows, and a value has another type or size."""

from __future__ import annotations

from typing import Any

import msgpack
import orjson
from hypothesis import strategies as st

ODD: list[Any] = [
    None, True, False, -1, 0, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63), 1.5, 1e300, "", "a.b",
    "*", ">", "a b\r\nPUB c 0\r\n", "x" * 5000, "\U0001f600" * 500, "\0", [], {}, [[]], ["x"] * 600,
    {"x": {}}, [None], ["a", "b"],
]  # fmt: skip
"""Values to put in the place of others."""


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with up to four bytes changed, cut, or extended."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.sampled_from(["flip", "cut", "extend", "double"])):
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del found[at:]
            case "extend":
                found[at:at] = draw(st.binary(max_size=8))
            case _:
                found += found[at : at + 64]
    return bytes(found)


@st.composite
def retyped(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one of what it holds, at any depth, replaced, left out or doubled."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(value)))
        changed = dict(value)
        match draw(st.integers(0, 5)):
            case 0:
                del changed[name]
            case 1:
                changed[str(draw(st.sampled_from(ODD)))[:99]] = changed[name]
            case _:
                changed[name] = draw(retyped(value[name]))
        return changed
    if isinstance(value, list | tuple) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        rows = list(value)
        match draw(st.integers(0, 5)):
            case 0:
                del rows[at]
            case 1:
                rows.insert(at, rows[at])
            case _:
                rows[at] = draw(retyped(rows[at]))
        return rows
    return draw(st.sampled_from(ODD))


def packed(data: bytes) -> st.SearchStrategy[bytes]:
    """Mutations of one message in msgpack."""
    value = msgpack.unpackb(data)
    return broken(data) | retyped(value).map(_packb) | retyped(value).flatmap(retyped).map(_packb)


def written(data: bytes) -> st.SearchStrategy[bytes]:
    """Mutations of one message in JSON."""
    value = orjson.loads(data)
    return broken(data) | retyped(value).map(_dumps) | retyped(value).flatmap(retyped).map(_dumps)


def _packb(value: Any) -> bytes:
    return msgpack.packb(value)  # type: ignore[no-any-return]


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)

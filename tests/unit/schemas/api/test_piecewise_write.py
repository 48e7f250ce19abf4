"""What is written in pieces is what orjson writes, and what is freed so is gone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import orjson
import pytest
from hypothesis import given

from schemas.api import piecewise_write
from schemas.api.piecewise_write import drop, dump, joined, joined_text, uncollected, written
from tests.turns import longest_turn
from tests.unit.schemas.api.test_piecewise import values

LARGE: dict[str, Any] = {
    "numbers": [0.12345678] * 10**6,
    "a text": ["\N{SNOWMAN}\n" * 10**6],
    "objects": [{"role": "user", "content": "hi"} for _ in range(10**5)],
    "an object": {"a": {f"k{at}": [at] for at in range(10**5)}, "b": "x" * 10**6},
    "mixed": ["x" * 10**6, 1, None, ["y" * 10**6, {}] * 9, {"z": "z" * 10**6}],
}


@given(values)
def test_pieces_are_what_is_written_at_once(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piecewise_write, "PIECE", 24)
        patch.setattr(piecewise_write, "_ROW", 3)
        assert b"".join(written(value)) == orjson.dumps(value)


@pytest.mark.parametrize("name", LARGE)
async def test_others_have_their_turns(name: str) -> None:
    writing = asyncio.get_running_loop().create_task(dump(LARGE[name]))
    longest, whole = await longest_turn(writing)
    assert await writing == orjson.dumps(LARGE[name])
    assert longest < whole


@pytest.mark.parametrize(
    "value", [[{1: "x" * 10**6}, 1], ["x" * 10**6, "\ud800"], [{"x"}, "x" * 10**6]]
)
async def test_what_cannot_be_written_is_refused(value: Any) -> None:
    with pytest.raises(orjson.JSONEncodeError):
        await dump(value)


class Seen(dict[str, Any]):
    """An object whose end is seen."""


async def test_a_tree_is_freed() -> None:
    tree: Any = [[{"a": [at], "b": {}} for at in range(5000)], {"x": [Seen()]}]
    end = weakref.ref(tree[1]["x"][0])
    assert end() is not None
    await drop(tree)
    assert tree == []
    assert end() is None


async def test_parts_are_joined() -> None:
    assert await joined([b"a" * 10**6, b"b" * 10**6]) == b"a" * 10**6 + b"b" * 10**6
    assert await joined([]) == b""
    assert await joined_text("abc") == "abc"


def test_garbage_is_collected_when_the_last_one_has_ended() -> None:
    assert gc.isenabled()
    first, second = uncollected(), uncollected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()

"""A large body is read in pieces, and refused for the same as a small one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from ingress.request.large_body import ENTRIES, MOST, has, is_large, read
from ingress.request.large_body import parse as parse_large
from schemas.api import endpoints, piecewise
from schemas.api.shape import parse
from schemas.errors import InvalidRequest

PAD = ",".join('{"role":"user","content":"\\"é\\u0022"}' for _ in range(40_000))
"""So many that they are not read in one go."""


def called(arguments: str) -> list[Any]:
    """A call with such arguments, and its result."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return [said, {"role": "tool", "tool_call_id": "c", "content": "x"}]


def body(before: str = "", behind: str = "") -> bytes:
    return f'{{"model":"m",{before}"messages":[{PAD}]{behind}}}'.encode()


SIGN = b'"cache_control"'


@pytest.mark.parametrize("size", [len(SIGN) - 1, 100, piecewise.LARGE + piecewise.PIECE])
async def test_a_sign_is_found_wherever_it_is(size: int) -> None:
    assert not await has(bytes(size), SIGN)
    cuts = [0, *range(piecewise.PIECE - len(SIGN), piecewise.PIECE + 1), size - len(SIGN)]
    for at in cuts:
        body = bytes(max(0, min(at, size))) + SIGN
        assert await has(body + bytes(max(0, size - len(body))), SIGN)
    assert not await has(bytes(size) + SIGN[:-1], SIGN)


async def test_a_large_body_is_looked_through_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise, "TURN", 0.0)  # each piece takes longer
    looking = asyncio.create_task(has(bytes(16 * piecewise.PIECE), SIGN))
    turns = 0
    while not looking.done():
        await asyncio.sleep(0)
        turns += 1
    assert not looking.result()
    assert turns >= 16


async def test_it_is_read_as_it_is() -> None:
    large = body(behind=',"x":"' + "é" * 300_000 + '"')
    assert (await parse_large(large))[0] == orjson.loads(large) == parse(large)


@pytest.mark.parametrize(
    ("before", "behind", "why", "param"),
    [
        ('"model":"n",', "", "duplicate keys", "model"),
        ("", ',"model":"n"', "duplicate keys", None),
        ("", ',"messages":[]', "duplicate keys", None),
        ("", ',"x":{"a":1,"a":2}', "duplicate keys", None),
        ("", ',"x":{"\\u0061":1,"a":2}', "duplicate keys", None),
        ('"x":NaN,', "", "not valid JSON", None),
        ('"stop":["a","\\ud800"],', "", "not valid JSON", None),
        ("", ',"x":NaN', "not valid JSON", None),
        ("", ",", "not valid JSON", None),
        ("", "}", "not valid JSON", None),
        ('"x":' + "[" * 300 + "]" * 300 + ",", "", "nested too deeply", "x[0][0][0][0][0][0][0]"),
        ("", ',"x":' + '{"a":' * 260 + "1" + "}" * 260, "nested too deeply", None),
    ],
)
async def test_what_is_wrong_is_said(before: str, behind: str, why: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest, match=why) as fault:
        await parse_large(body(before, behind))
    with pytest.raises(InvalidRequest, match=why):
        parse(body(before, behind))
    if param is not None:
        assert fault.value.param == param


async def test_levels_of_several_pieces_are_one_depth() -> None:
    """Each piece by itself could be written."""
    inner: Any = "x" * 200_000
    for _ in range(127):
        inner = ["x" * 3000, inner, [[]]]
    deep: Any = 1
    for _ in range(129):
        deep = [deep]
    large = json.dumps([inner, [deep] * 300]).encode()
    assert (await parse_large(large))[0] == orjson.loads(large)
    inside = json.dumps(inner).replace("[[]]", "[" * 129 + "]" * 129)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        await parse_large(f"[{inside},{json.dumps([[]] * 20_000)}]".encode())


async def test_lists_and_objects_are_counted() -> None:
    with pytest.raises(InvalidRequest, match=f"more than {MOST} lists and objects"):
        await parse_large(b'{"x":[%b]}' % b", ".join([b"{  }"] * MOST))


async def test_entries_are_counted() -> None:
    with pytest.raises(InvalidRequest, match=f"more than {ENTRIES} entries"):
        await parse_large(b'{"x":[%b1]}' % (b"1," * ENTRIES))


def test_which_bodies_are_large() -> None:
    assert is_large(b"[" * 70_000)
    assert not is_large(b"a" * 70_000)
    assert is_large(b"a" * 300_000)


CHAT = endpoints.CHAT.shape
MESSAGE = {"role": "user", "content": "x" * 20}


def chat(rows: list[Any], **more: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": rows, **more})


@pytest.mark.parametrize(
    "large",
    [
        chat([MESSAGE] * 16_384),
        chat([MESSAGE] * 9000, stop=None, tools=[{"type": "x", "y": None}]),
        chat([MESSAGE] * 9000, max_tokens=4.0, stop=["", "b"]),
        chat([*[MESSAGE] * 9000, {"role": "user", "content": [{"type": "text", "text": None}]}]),
        chat([*[MESSAGE] * 9000, {"role": "nobody", "content": "x"}, *[MESSAGE] * 2000]),
        chat([*[MESSAGE] * 9000, {"role": "user"}]),
        chat([MESSAGE] * 9000, logit_bias={"1": 200}),
        chat([MESSAGE] * 9000, tools="none"),
        chat([MESSAGE] * 16_385),
        chat([*[MESSAGE] * 9000, *called("{" + '"a":1,' * 50_000 + '"b":[]}')]),
        chat([*[MESSAGE] * 9000, *called(" [" + "1," * 50_000 + "2] ")]),
        chat([*[MESSAGE] * 9000, *called("no JSON " * 20_000)]),
        orjson.dumps(
            {"model": "m", "messages": [MESSAGE], **{f"k{at}": 1 for at in range(30_000)}}
        ),
        orjson.dumps([MESSAGE] * 9000),
    ],
)
async def test_it_is_checked_as_a_small_one_is(large: bytes) -> None:
    found, body = await outcome(lambda: read(CHAT, large))
    wanted, plain = await outcome(lambda: asyncio.to_thread(CHAT.read, large))
    assert found == wanted
    assert (body is large) == (plain is large)
    assert orjson.loads(body or b"0") == orjson.loads(plain or b"0")


async def outcome(work: Callable[[], Awaitable[tuple[Any, bytes]]]) -> tuple[Any, bytes]:
    """(request, body), or what is wrong."""
    try:
        return await work()
    except InvalidRequest as fault:
        return fault.fields(), b""


@pytest.mark.parametrize(
    "endpoint", [endpoints.COMPLETIONS, endpoints.EMBEDDINGS, endpoints.DETOKENIZE]
)
async def test_a_million_token_ids_are_taken(endpoint: endpoints.Endpoint) -> None:
    name = {"completions": "prompt", "embeddings": "input"}.get(endpoint.word, "tokens")
    ids = list(range(2**20))
    large = orjson.dumps({"model": "m", name: ids})
    assert (await read(endpoint.shape, large))[1] is large
    ids[-1] = -1
    with pytest.raises(InvalidRequest):
        await read(endpoint.shape, orjson.dumps({"model": "m", name: ids}))

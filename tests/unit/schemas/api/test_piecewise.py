"""A text that is read in pieces is read as orjson reads it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api import piecewise
from schemas.api.piecewise import KEYS, LARGE, LETTERS, NotJson, Reader, Repeated, TooMany, load
from tests.turns import longest_turn

PIECE = 24
"""The smallest, so that short texts have many."""
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=40,
)
AFTER_ALL: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("spaces", b" " * 99),
    ("a comma first", b"[,1]"),
    ("two commas", b"[1,,2]"),
    ("a comma last", b"[1,]"),
    ("a comma last in an object", b'{"a":1,}'),
    ("no comma", b'["%b" "%b"]' % (b"a" * 50, b"b" * 50)),
    ("no comma behind a list", b"[[%b] 1]" % b",".join([b"1"] * 40)),
    ("no comma before a list", b"[1 [%b]]" % b",".join([b"1"] * 40)),
    ("the other bracket", b"[%b}" % b",".join([b"1"] * 40)),
    ("the other bracket inside", b"[[1},%b]" % b",".join([b"1"] * 40)),
    ("no end", b"[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"),
    ("no end of a string", b'["%b' % (b"a" * 99)),
    ("two ends", b"[1]]"),
    ("more behind the end", b"[%b] 1" % b",".join([b"1"] * 40)),
    ("no key", b"{%b}" % b",".join([b"1"] * 40)),
    ("no colon", b'{"a" [%b]}' % b",".join([b"1"] * 40)),
    ("a key in a list", b'["a":[%b]]' % b",".join([b"1"] * 40)),
    ("a word", b'{"a":%b%b}' % (b" " * 40, b"nil")),
    ("half a pair", b'["%b\\ud83d%b"]' % (b"a" * 40, b"b" * 40)),
    ("half an escape", b'["%b\\u12' % (b"a" * 40)),
    ("an unknown escape", b'["%b\\x%b"]' % (b"a" * 40, b"b" * 40)),
    ("bad UTF-8", b'["%b\xff%b"]' % (b"a" * 40, b"b" * 40)),
    ("only ends of characters", b'["%b\x80\x80\x80\x80%b"]' % (b"a" * 20, b"\x80" * 40)),
    ("a control character", b'["%b\n%b"]' % (b"a" * 40, b"b" * 40)),
]


def read(text: bytes, most: int = 10**6, piece: int = PIECE, check: Any = None) -> Any:
    reader = Reader(text, most, check, piece)
    for _ in itertools.islice(reader.pieces(), 10 * len(text) + 10):
        pass
    return reader.found


@given(values, st.sampled_from([0, orjson.OPT_INDENT_2]))
def test_what_is_written_is_read(value: Any, how: int) -> None:
    text = orjson.dumps(value, option=how)
    assert read(text) == orjson.loads(text)


@given(values, st.integers(0, 400), st.sampled_from(list(b'[]{}",: \\1au\x80')), st.booleans())
def test_what_is_spoilt_is_read_as_orjson_does(
    value: Any, place: int, sign: int, instead: bool
) -> None:
    text = bytearray(orjson.dumps([value, value]))
    place %= len(text)
    text[place : place + instead] = bytes([sign])
    spoilt = bytes(text)
    try:
        wanted = orjson.loads(spoilt)
    except orjson.JSONDecodeError:
        with pytest.raises(NotJson):
            read(spoilt)
    else:
        assert read(spoilt) == wanted


@pytest.mark.parametrize(("what", "text"), AFTER_ALL, ids=[what for what, _ in AFTER_ALL])
def test_what_is_no_json_is_refused(what: str, text: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)
    with pytest.raises(NotJson):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        b" " * 99 + b"[" + b" " * 99 + b"1" + b" " * 99 + b"," + b" " * 99 + b"2]" + b" " * 99,
        b'{"a":"' + "\N{GRINNING FACE}ä".encode() * 50 + b'","b":[' + b"[]," * 50 + b"{}]}",
        b'["' + rb"\ud83d\ude00\u00e4\\\"" * 50 + b'"]',
        b'["' + rb"\\ud83d" * 50 + b'"]',
        b"[" * 200 + b"]" * 200,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'"' + b"a" * 99 + b'"',
        b"1",
    ],
)
@pytest.mark.parametrize("piece", range(PIECE, PIECE + 14))
def test_wherever_it_is_cut(text: bytes, piece: int) -> None:
    assert read(text, piece=piece) == orjson.loads(text)


def test_brackets_are_counted() -> None:
    text = b"[%b]" % b",".join([b'[[],{},"[[["]'] * 100)
    assert len(read(text, 301)) == 100
    with pytest.raises(TooMany):
        read(text, 300)


@pytest.mark.parametrize(
    "inner", [b"1", b'"[{"', b"[],{}", b'{"a":[1,2],"b":{}}', b'"%b"' % (b"x" * 99)]
)
def test_entries_are_counted(inner: bytes) -> None:
    text = b"[%b]" % b",".join([inner] * 40)

    def count(found: Any) -> int:
        if not isinstance(found, list | dict):
            return 0
        return len(found) + sum(map(count, found.values() if isinstance(found, dict) else found))

    reader = Reader(text, piece=PIECE, entries=(most := count(orjson.loads(text))))
    assert len(list(reader.pieces())) > 1
    with pytest.raises(TooMany):
        list(Reader(text, piece=PIECE, entries=most - 40).pieces())


@pytest.mark.parametrize(
    "text",
    [
        b"{%b}" % b",".join(b'"%d":1' % at for at in range(2 * KEYS)),
        '["{}\u2603"]'.format("a" * LETTERS).encode(),
        b'["%b"]' % (rb"\u00e4" * (LETTERS + 1)),
    ],
)
async def test_what_takes_long_to_be_put_together_is_refused(text: bytes) -> None:
    with pytest.raises(TooMany):
        await load(text)


async def test_a_long_text_is_whole() -> None:
    for text in ("a\n" * LETTERS, "a" * (LETTERS - 9) + "\u2603" * 9):
        assert await load(orjson.dumps([text])) == [text]


def test_a_check_sees_all_pieces_and_keys_of_two() -> None:
    seen = list[tuple[Any, int]]()
    text = b'{"a":[%b],"b":%b}' % (b",".join([b"1"] * 40), b'"%b"' % (b"c" * 40))
    read(text, check=lambda _, found, around: seen.append((found, around)))
    assert sum(sum(found) for found, _ in seen if isinstance(found, list)) == 40
    assert {around for found, around in seen if isinstance(found, list)} == {1}
    for again in (b',"a":1}', b',"b":2}'):
        with pytest.raises(Repeated):
            read(text[:-1] + again, check=lambda *_: None)


def test_nesting_ends_somewhere() -> None:
    with pytest.raises(NotJson, match="deep"):
        read(b"[" * 300 + b"]" * 300)


@pytest.mark.parametrize(
    "text",
    [
        b'["%b"]' % (b"a" * (8 << 20)),
        b"[%b]" % b",".join([b"0.12345678"] * (1 << 20)),
        b"[%b]" % b",".join([b'{"role":"user","content":"hi"}'] * (1 << 17)),
        b"[%b]" % b",".join([b"[[[]]]"] * (1 << 16)),
    ],
    ids=["text", "numbers", "objects", "brackets"],
)
async def test_others_have_their_turns(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else waits for more than some pieces; however large it is, and fast the machine."""
    monkeypatch.setattr(piecewise, "TURN", 0.0)
    assert len(text) > LARGE
    reading = asyncio.get_running_loop().create_task(load(text))
    longest, whole = await longest_turn(reading)
    assert await reading == orjson.loads(text)
    assert longest < whole

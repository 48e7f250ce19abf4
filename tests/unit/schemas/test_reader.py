"""What the broker sends is read by `client.Reader` or by nats-py, whichever it is for: all of it,
once, in its order, however it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg
from nats.errors import ProtocolError

from schemas.client import DirectClient, Reader
from tests.unit import fakes

OURS, THEIRS = 5, 6
"""Subscriptions with a handler of ours, and with nats-py's queue."""
Heard = tuple[Any, ...]


def broken() -> None:
    raise ZeroDivisionError


class Client(DirectClient):
    """Notes what is heard, by whomever. nats-py's part takes a turn for each, as it may."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Heard] = []
        self._status = self.CONNECTED
        self.handlers[OURS] = self._ours

    def _ours(self, message: Msg) -> None:
        self.heard.append((message.subject, message.reply, message.data, message.headers))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        if sid in self.handlers:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            await self._note(sid, subject, reply, data)

    async def _process_ping(self) -> None:
        await self._note("PING")

    async def _process_pong(self) -> None:
        await self._note("PONG")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await self._note(info)

    async def _process_err(self, err_msg: str) -> None:
        await self._note(err_msg)

    async def _note(self, *what: Any) -> None:
        self.heard.append(what)
        await asyncio.sleep(0)


class Line:
    """A connection as it is once it is made, without a socket."""

    def __init__(self) -> None:
        self.client = Client()
        self.stream = asyncio.StreamReader()
        self.lost: list[object] = []
        self.reader = Reader(self.client, self, self.stream)
        self.ended: Exception | None = None
        self._task = asyncio.create_task(self._read())

    def data_received(self, data: bytes) -> None:
        self.stream.feed_data(data)

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, fault: object) -> None:
        self.lost.append(fault)

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    async def _read(self) -> None:
        """nats-py's own, without its ends."""
        try:
            while data := await self.stream.read(32768):
                await self.client._ps.parse(data)
        except ProtocolError as fault:
            self.ended = fault

    async def come(self, *pieces: bytes) -> list[Heard]:
        """What is heard when these come, with the time between them that nats-py takes."""
        for piece in pieces:
            self.reader.data_received(piece)
            await fakes.turns(2)
        await fakes.turns(20)
        heard, self.client.heard = self.client.heard, []
        return heard

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    await made.close()


def message(data: bytes, sid: int = OURS, reply: bytes = b"", head: bytes = b"") -> bytes:
    names = b" ".join(filter(None, (b"a.b", b"%d" % sid, reply)))
    if head:
        return b"HMSG %b %d %d\r\n%b%b\r\n" % (names, len(head), len(head + data), head, data)
    return b"MSG %b %d\r\n%b\r\n" % (names, len(data), data)


TOLD: list[tuple[bytes, Heard]] = [
    (message(b"one"), ("a.b", "", b"one", None)),
    (message(b"", reply=b"r.1"), ("a.b", "r.1", b"", None)),
    (b"PING\r\n", ("PING",)),
    (message(b"two", head=b"NATS/1.0\r\nX: y\r\n\r\n"), ("a.b", "", b"two", {"X": "y"})),
    (message(b"", head=b"NATS/1.0 503\r\n\r\n"), ("a.b", "", b"", {"Status": "503"})),
    (message(b"for nats-py", THEIRS, b"r"), (THEIRS, b"a.b", b"r", b"for nats-py")),
    (message(b"\r\nMSG a.b 5 3\r\nPING\r\n"), ("a.b", "", b"\r\nMSG a.b 5 3\r\nPING\r\n", None)),
    (b'INFO {"ldm": true}\r\n', ({"ldm": True},)),
    (b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
     ("'permissions violation for publish to \"x\"'",)),
    (b"PONG\r\n", ("PONG",)),
    (message(b"last"), ("a.b", "", b"last", None)),
]  # fmt: skip
ALL = b"".join(raw for raw, _ in TOLD)
HEARD = [heard for _, heard in TOLD]


async def test_whatever_comes_is_heard_once_and_in_order(line: Line) -> None:
    assert await line.come(ALL) == HEARD
    assert await line.come(ALL + b"+OK\r\n" + ALL) == HEARD * 2


async def test_it_may_be_cut_anywhere(line: Line) -> None:
    for at in range(len(ALL) + 1):
        assert await line.come(ALL[:at], ALL[at:]) == HEARD, ALL[:at][-20:]


async def test_it_may_come_byte_by_byte(line: Line) -> None:
    assert await line.come(*(ALL[at : at + 1] for at in range(len(ALL)))) == HEARD


@given(st.lists(st.sampled_from(TOLD), max_size=12), st.lists(st.integers(0, 600), max_size=8))
def test_in_any_order_and_cut_anyhow(told: list[tuple[bytes, Heard]], cuts: list[int]) -> None:
    whole = b"".join(raw for raw, _ in told)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]

    async def come() -> Sequence[Heard]:
        line = Line()
        try:
            pieces = pairwise(places)
            return await line.come(*(whole[begin:end] for begin, end in pieces))
        finally:
            await line.close()

    assert asyncio.run(come()) == [heard for _, heard in told]


async def test_a_large_message_in_many_pieces_is_looked_at_once_it_is_whole(line: Line) -> None:
    body = bytes(range(256)) * 4096
    raw = message(body) + message(b"next")
    pieces = [raw[at : at + 65536] for at in range(0, len(raw), 65536)]
    assert [heard[2] for heard in await line.come(*pieces)] == [body, b"next"]


@pytest.mark.parametrize(
    "line_",
    [
        b"MSG a.b x 3\r\n", b"MSG a.b 5 -1\r\n", b"MSG a.b 5\r\n", b"MSG 5 3\r\n", b"XYZ\r\n",
        b"MSG a.b 5 r q 3\r\n", b"HMSG a.b 5 x 3\r\n", b"\r\n", b"MSGX a.b 5 3\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_protocol_is_left_to_nats_py(line: Line, line_: bytes) -> None:
    """It ends the connection."""
    heard = await line.come(message(b"before") + line_ + message(b"behind"))
    assert [each[2] for each in heard] == [b"before"]
    assert line.ended is not None


async def test_a_head_that_is_longer_than_its_message_is_handled_by_nobody(line: Line) -> None:
    heard = await line.come(b"HMSG a.b 5 9 3\r\nabc\r\n")
    assert [each for each in heard if each[0] == "a.b"] == []


async def test_a_fault_of_a_handler_is_told_and_the_next_message_is_handled(line: Line) -> None:
    told: list[Exception] = []

    async def tell(fault: Exception) -> None:
        told.append(fault)

    def fail(message: Msg) -> None:
        raise LookupError(message.data)

    line.client._error_cb = tell
    line.client.handlers[7] = fail
    heard = await line.come(message(b"bad", 7) + message(b"good"))
    assert [each[2] for each in heard] == [b"good"]
    assert [str(fault) for fault in told] == ["b'bad'"]


async def test_what_is_left_for_the_end_of_a_reading_runs_once_all_of_it_is_handled(
    line: Line,
) -> None:
    seen: list[int] = []

    def note(message: Msg) -> None:
        line.client.heard.append((message.data,))
        if len(line.client.heard) == 1:
            line.client.after_reading(lambda: seen.append(len(line.client.heard)))

    line.client.handlers[OURS] = note
    line.reader.data_received(message(b"1") + message(b"2"))
    assert seen == [2]
    line.client.after_reading(lambda: seen.append(0))
    assert seen == [2], "nothing is read now"
    await fakes.turns(1)
    assert seen == [2, 0]


async def test_a_fault_at_the_end_of_a_reading_is_told_and_the_rest_runs(line: Line) -> None:
    told: list[Exception] = []
    seen: list[bytes] = []

    async def tell(fault: Exception) -> None:
        told.append(fault)

    def note(message: Msg) -> None:
        line.client.after_reading(broken)
        line.client.after_reading(lambda: seen.append(message.data))

    line.client._error_cb = tell
    line.client.handlers[OURS] = note
    line.reader.data_received(message(b"1"))
    await fakes.turns(2)
    assert (seen, [type(each) for each in told]) == ([b"1"], [ZeroDivisionError])


async def test_nothing_is_handled_of_a_connection_that_is_given_up(line: Line) -> None:
    line.reader.data_received(message(b"x")[:-3])
    line.client._status = line.client.RECONNECTING
    assert [each for each in await line.come(b"x\r\n", message(b"y")) if each[0] == "a.b"] == []


async def test_the_end_of_the_connection_is_told_to_the_stream(line: Line) -> None:
    line.reader.connection_lost(None)
    assert line.lost == [None]
    assert line.reader.eof_received()

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import ParseResult, urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport, Transport

from schemas.bus_errors import BusError
from schemas.client import DirectClient, _head
from tests.unit import fakes


def broken() -> None:
    raise ZeroDivisionError


class FakeTransport:
    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.drained = 0
        self.closed = self.lost = False

    def write(self, data: bytes) -> None:
        if self.closed:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.sent += data
        self.writes += 1

    def writelines(self, lines: list[bytes]) -> None:
        self.write(b"".join(lines))

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None: ...

    async def drain(self) -> None:
        self.drained += 1
        if self.lost:
            raise ConnectionResetError("Connection lost")


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def client(transport: FakeTransport) -> DirectClient:
    made = DirectClient()
    made._transport = cast(Transport, transport)
    made._status = DirectClient.CONNECTED
    return made


async def test_what_one_turn_posts_is_written_at_once(
    client: DirectClient, transport: FakeTransport
) -> None:
    assert client.write("a.b", "", b"12", b"")
    assert client.write("a.b", "r.1", b"", b"")
    await fakes.turns(1)
    assert transport.writes == 1
    assert transport.sent == b"PUB a.b  2\r\n12\r\nPUB a.b r.1 0\r\n\r\n"


async def test_what_is_called_before_writing_posts_in_the_same_write(
    client: DirectClient, transport: FakeTransport
) -> None:
    client.before_writing(lambda: client.post("late"))
    client.post("early")
    await fakes.turns(1)
    assert (transport.writes, transport.sent) == (1, b"PUB early  0\r\n\r\nPUB late  0\r\n\r\n")
    client.post("next")
    await fakes.turns(1)
    assert transport.writes == 2


async def test_where_nothing_was_posted_nothing_is_written(
    client: DirectClient, transport: FakeTransport
) -> None:
    client.before_writing(lambda: None)
    await fakes.turns(1)
    assert transport.writes == 0


async def test_a_fault_before_writing_costs_no_message(
    client: DirectClient, transport: FakeTransport
) -> None:
    told: list[Exception] = []

    async def tell(fault: Exception) -> None:
        told.append(fault)

    client._error_cb = tell
    client.before_writing(broken)
    client.before_writing(lambda: client.post("another's"))
    client.post("early")
    await fakes.turns(2)
    client.post("late")
    await fakes.turns(1)
    assert transport.sent == b"".join(
        b"PUB %b  0\r\n\r\n" % subject for subject in (b"early", b"another's", b"late")
    )
    assert [type(fault) for fault in told] == [ZeroDivisionError]


async def test_what_is_given_while_calls_are_made_before_writing_is_called_too(
    client: DirectClient, transport: FakeTransport
) -> None:
    client.before_writing(lambda: client.before_writing(lambda: client.post("late")))
    await fakes.turns(1)
    assert (transport.writes, transport.sent) == (1, b"PUB late  0\r\n\r\n")


async def test_headers_are_counted_and_stay_on_their_lines(
    client: DirectClient, transport: FakeTransport
) -> None:
    client.post("a", b"body", "r", {"Error": "ä\r\nEvil: 1"})
    await fakes.turns(1)
    line, _, rest = transport.sent.partition(b"\r\n")
    head, whole = (int(number) for number in line.split()[-2:])
    assert line.split()[:3] == [b"HPUB", b"a", b"r"]
    assert rest[:head] == "NATS/1.0\r\nError: ä Evil: 1\r\n\r\n".encode()
    assert rest[head:whole] == b"body"
    assert len(rest) == whole + 2


NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1
)
VALUES = st.text(st.characters(exclude_categories=["C", "Z"]))


@given(st.dictionaries(NAMES, VALUES, min_size=1))
def test_headers_are_read_as_by_the_library(told: dict[str, str]) -> None:
    head = _head(told)
    assert DirectClient().headers_of(head) == told
    assert Client._parse_header_lines(head.partition(b"\r\n")[2]) == told


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"A:b\r\nC: d\r\n", {"A": "b", "C": "d"}),
        (b"A: b\r\nnothing\r\n", {"A": "b"}),
        (b"A: \xff\r\n", {"A": "\ufffd"}),
        (b"", None),
    ],
)
def test_headers_that_others_write(lines: bytes, found: dict[str, str] | None) -> None:
    assert DirectClient().headers_of(b"NATS/1.0\r\n" + lines + b"\r\n") == found


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0", "a\tb", "ä", "\ud800"])
@pytest.mark.parametrize("status", [DirectClient.CONNECTED, DirectClient.RECONNECTING])
async def test_a_subject_cannot_smuggle_a_command(
    client: DirectClient, transport: FakeTransport, subject: str, status: int
) -> None:
    client._status = status
    with pytest.raises(BusError, match="not a subject"):
        client.post(subject)
    if subject:
        with pytest.raises(BusError, match="not a subject"):
            client.post("a", b"", subject)
    assert (transport.sent, client._pending) == (b"", [])


@pytest.mark.parametrize(
    "message",
    [
        ("c." + "h" * 4999, b"", ""),
        ("c.h", b"", "r." + "h" * 4999),
        ("c." + "h" * 2000, b"", "r." + "h" * 2000),
        ("c.h", b"x" * 101, ""),
        ("c.h", b"x" * 60, "", {"Headrace-Error": "e" * 60}),
        ("c.h", b"", "", {"Headrace-Error": "e" * 101}),
    ],
)
@pytest.mark.parametrize("status", [DirectClient.CONNECTED, DirectClient.RECONNECTING])
async def test_what_the_broker_would_close_the_connection_for_is_refused(
    client: DirectClient, transport: FakeTransport, message: tuple[Any, ...], status: int
) -> None:
    client._status, client._max_payload = status, 100
    with pytest.raises(BusError):
        client.post(*message)
    await fakes.turns(1)
    assert (transport.sent, client._pending) == (b"", [])


async def test_a_reader_that_ends_by_a_fault_leads_to_a_new_connection(
    client: DirectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Exception] = []

    async def end(fault: Exception) -> None:
        ended.append(fault)

    async def read(_: object) -> None: ...

    monkeypatch.setattr(Client, "_read_loop", read)
    monkeypatch.setattr(client, "_process_op_err", end)
    await client._read_loop()
    assert len(ended) == 1
    client._status = DirectClient.RECONNECTING  # as after an end that nats-py has dealt with
    await client._read_loop()
    assert len(ended) == 1


async def test_what_waits_already_goes_first(
    client: DirectClient, transport: FakeTransport
) -> None:
    client._pending.append(b"PUB early 0\r\n\r\n")
    assert not client.write("late", "", b"", b"")
    client._pending.clear()
    client._status = DirectClient.RECONNECTING
    assert not client.write("late", "", b"", b"")
    assert transport.sent == b""


async def test_what_the_connection_did_not_take_waits_for_the_next(
    client: DirectClient, transport: FakeTransport
) -> None:
    assert client.write("a", "", b"1", b"")
    client._status = DirectClient.RECONNECTING
    await fakes.turns(1)
    assert transport.sent == b""
    assert b"".join(client._pending) == b"PUB a  1\r\n1\r\n"
    assert client.pending_data_size == len(b"PUB a  1\r\n1\r\n")


async def test_what_a_closed_socket_does_not_take_waits_for_the_next(
    client: DirectClient, transport: FakeTransport
) -> None:
    """The socket has failed, and the client is not told yet."""
    transport.closed = True
    assert client.write("a", "", b"1", b"")
    await fakes.turns(1)
    assert b"".join(client._pending) == b"PUB a  1\r\n1\r\n"
    assert not client.write("a", "", b"2", b""), "the order stays"


async def test_a_handler_is_called_by_the_parser(client: DirectClient) -> None:
    heard: list[Msg] = []
    client.handlers[5] = heard.append
    await client._process_msg(5, b"a", b"r", b"data", b"NATS/1.0 408 Timeout\r\nX: y\r\n\r\n")
    (message,) = heard
    assert (message.subject, message.reply, message.data) == ("a", "r", b"data")
    assert message.headers is not None
    assert (message.headers["Status"], message.headers["X"]) == ("408", "y")


async def test_a_fault_of_a_handler_is_told_and_does_no_harm(client: DirectClient) -> None:
    told: list[Exception] = []

    async def tell(fault: Exception) -> None:
        told.append(fault)

    def fail(_: Any) -> None:
        raise LookupError("x")

    client._error_cb = tell
    client.handlers[5] = fail
    await client._process_msg(5, b"a", b"", b"", b"")
    await fakes.turns(2)
    assert [type(fault) for fault in told] == [LookupError]


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_a_connection_that_just_ended_is_no_fault_of_who_unsubscribes(
    client: DirectClient, transport: FakeTransport, how: str
) -> None:
    client._flush_queue = asyncio.Queue()
    setattr(transport, how, True)
    await client._send_unsubscribe(7)


async def test_drained_waits_for_the_socket_while_there_is_one(
    client: DirectClient, transport: FakeTransport
) -> None:
    await client.drained()
    client._status = DirectClient.RECONNECTING
    await client.drained()
    assert transport.drained == 1


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ("'Authentication Timeout'", True),
        ("'Maximum Connections Exceeded'", True),
        ("'Slow Consumer'", True),
        ("'Authorization Violation'", True),
        ("'Parser Error'", True),
        ("'permissions violation for publish to \"a\"'", False),
    ],
)
async def test_an_error_costs_one_connection_at_most(
    client: DirectClient, monkeypatch: pytest.MonkeyPatch, said: str, ends: bool
) -> None:
    ended: list[str] = []

    async def reconnects(_: Exception) -> None:
        ended.append("reconnects")

    async def tells(_: Exception) -> None:
        ended.append("tells")

    monkeypatch.setattr(client, "_process_op_err", reconnects)
    client._error_cb = tells
    await client._process_err(said)
    await fakes.turns(1)
    assert ended == ["reconnects" if ends else "tells"]


async def test_a_socket_that_closes_while_it_is_new_is_one_more_try(
    client: DirectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop raises an error that nats-py does not expect: it would never try again."""
    tries: list[str] = []

    async def attempt(_: Client) -> None:
        tries.append("tried")
        if len(tries) < 3:
            raise RuntimeError("the handler is closed")

    monkeypatch.setattr(Client, "_attempt_reconnect", attempt)
    await client._attempt_reconnect()
    assert len(tries) == 3


@pytest.mark.parametrize("status", [DirectClient.CONNECTED, DirectClient.RECONNECTING])
async def test_a_closed_socket_does_not_keep_from_closing(
    client: DirectClient, transport: FakeTransport, status: int
) -> None:
    client._status = status
    client._flush_queue = asyncio.Queue()
    client.options["reconnect_time_wait"] = 0
    client._pending.append(b"PUB a 0\r\n\r\n")
    client._pending_data_size = 11
    transport.closed = True
    await client.close()
    assert client.is_closed


async def test_a_server_may_have_moved_before_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    async def connect(_: TcpTransport, uri: ParseResult, *__: int) -> None:
        tried.append(uri.port or 0)

    def move(server: Srv) -> None:
        server.uri = urlparse(f"nats://h:{2 + len(tried)}")

    monkeypatch.setattr(TcpTransport, "connect", connect)
    moved = DirectClient(move)
    moved.options["connect_timeout"] = 1
    server = Srv(urlparse("nats://h:1"))
    await moved._connect_to_server(server)
    await moved._connect_to_server(server)
    assert tried == [2, 3]

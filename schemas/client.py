"""nats-py's client with shortcuts for the hot path (ADR 2).

Once connected, `Reader` reads the socket and calls our handlers at once; all else goes to nats-py's
own reader. What one turn of the event loop posts goes out in one write. Private parts of nats-py
are used for this, so its version is bounded, and tests watch these parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
from nats import errors as nats_errors
from nats.aio.client import Srv
from nats.aio.msg import Msg
from nats.protocol.parser import AWAITING_CONTROL_LINE

from schemas import metrics
from schemas.bus_errors import ApiError, BusError, BusFull, NotFound
from schemas.connecting import Connecting

_HEAD = b"NATS/1.0\r\n"
LINE = 4000
"""Letters of a subject and the reply subject together. The broker closes a connection that sends a
line of more than 4,096 (``max_control_line``), with the sizes of the message and its head."""
SHOWN = 200  # letters of a subject that a message repeats
_CONTROL = 4096  # most bytes of a line of the server, its end included
_NOBODY = "503"  # the broker's status for a question that nobody subscribes to
_NOT_FOUND = 404  # JetStream's code for what does not exist; its err_code says what is missing

Handler = Callable[[Msg], None]


class Heard(Msg):
    """A message whose headers are read when somebody asks for them: of most nobody does, and it
    takes 1 µs (measured)."""

    _client: DirectClient
    head = b""
    """Its headers as they came, until then."""
    _read: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str] | None:
        if self.head:
            self._read, self.head = self._client.headers_of(self.head), b""
        return self._read

    @headers.setter
    def headers(self, told: dict[str, str] | None) -> None:
        self._read = told


class DirectClient(Connecting):
    def __init__(self, relocate: Callable[[Srv], None] = lambda server: None) -> None:
        """`relocate` may change the address of a server, and the login, before each try."""
        super().__init__(relocate)
        self.handlers: dict[int, Handler] = {}
        """Synchronous handlers by subscription id; the parser calls them."""
        self._ready: list[bytes] = []
        self._first: list[Callable[[], None]] = []
        self._due = False
        """Whether this turn of the event loop ends with `_hand_over`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = False
        self._read: list[Callable[[], None]] = []
        self._telling: set[asyncio.Future[None]] = set()

    def handle(
        self, handler: Handler, sid: int, subject: bytes, reply: bytes, data: bytes, head: bytes
    ) -> None:
        """Call a handler with a message. `head`: its headers as they came."""
        try:
            what = subject.decode(), reply.decode(), data, None, None, False, sid
            if head:
                heard = Heard(self, *what)
                heard.head = head
                handler(heard)
            else:
                handler(Msg(self, *what))
        except Exception as fault:  # noqa: BLE001 - a bad message must not end the connection
            self._tell_soon(fault)

    def after_reading(self, call: Callable[[], None]) -> None:
        """Call it once all is handled that came with the message that is handled now, or else in
        the next turn of the event loop."""
        if self._reading:
            self._read.append(call)
        else:
            asyncio.get_running_loop().call_soon(call)

    def read_from(self, reader: Reader, data: bytes) -> int:
        """Have a reader handle the messages in `data`; where they end."""
        self._reading = True
        at = reader.messages(data)
        self._reading, calls, self._read = False, self._read, []
        self._call(calls)
        return at

    def _call(self, calls: list[Callable[[], None]]) -> None:
        for call in calls:
            try:
                call()
            except Exception as fault:  # noqa: BLE001 - as above; the others are to be called
                self._tell_soon(fault)

    def _tell_soon(self, fault: Exception) -> None:
        telling = asyncio.ensure_future(self._error_cb(fault))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def headers_of(self, head: bytes) -> dict[str, str] | None:
        """nats-py's parser takes three times as long, so it gets only lines that are not parted by
        ": ". It is a coroutine that waits for nothing, but to tell of a head it cannot read."""
        if head.startswith(_HEAD):
            with contextlib.suppress(ValueError):
                lines = head[len(_HEAD) : -4].decode().split("\r\n")
                return dict([line.split(": ", 1) for line in lines])
        step = self._process_headers(head)
        try:
            step.send(None)
        except StopIteration as parsed:
            return cast("dict[str, str] | None", parsed.value)
        step.close()
        return None

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        handler = self.handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.handle(handler, sid, subject, reply, data, headers)

    def post(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish without waiting. Raises BusFull, and BusError if the connection is closed, or for
        what the broker would close it for.

        If `write` cannot send now, one step of the coroutine `Client.publish` buffers the message
        and wakes the flusher. Its only suspension, the forced flush of a full buffer, comes later.
        So no task is needed.
        """
        head = _head(headers) if headers else b""
        if len(head) + len(payload) > self.max_payload:
            raise BusError(f"{len(head) + len(payload)} bytes are more than the broker takes")
        # Subjects may come from the wire.
        if not _sane(subject) or not (_sane(reply) or not reply):
            raise BusError(f"not a subject: {subject[:SHOWN]!r} {reply[:SHOWN]!r}")
        if len(subject) + len(reply) > LINE:
            raise BusError(f"a subject of {len(subject) + len(reply)} letters is too long")
        try:
            if self.write(subject, reply, payload, head):
                return
            step = self.publish(subject, payload, reply, _plain(headers) if headers else None)
            step.send(None)
        except StopIteration:
            return
        except nats_errors.OutboundBufferLimitError:
            metrics.BUS_DROPPED.labels("outbound").inc()
            raise BusFull("the broker is away and the outbound buffer is full") from None
        except (nats_errors.Error, ValueError) as fault:
            raise BusError(str(fault)) from None
        step.close()  # it suspended at the forced flush, so the message is in the buffer

    def write(self, subject: str, reply: str, payload: bytes, head: bytes) -> bool:
        """Send a message at the end of this turn of the event loop; False if `publish` must buffer
        it. `head`: its headers as they are sent; empty if it has none."""
        # Messages in the buffer go first, so that the order is kept.
        if not self.is_connected or self._pending or self._transport is None:
            return False
        if head:
            line = f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n"
            command = b"%b%b%b\r\n" % (line.encode(), head, payload)
        else:
            command = b"%b%b\r\n" % (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload)
        if not self._due:
            self._write_soon()
        self._ready.append(command)
        return True

    def before_writing(self, call: Callable[[], None]) -> None:
        """Have `call` post what it has at the end of this turn, in the same write as all else. Also
        one that is given by such a call."""
        if not self._due:
            self._write_soon()
        self._first.append(call)

    def _write_soon(self) -> None:
        self._due = True
        if self._loop is None:  # to ask for it is a system call each time
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Write everything that this turn of the loop posted at once. uvloop gathers no writes,
        and one write each tripled the broker's CPU (measured: 0.31 to 1.06 ms a request)."""
        while self._first:
            calls, self._first = self._first, []
            self._call(calls)
        ready, self._ready, self._due = self._ready, [], False
        if ready:  # else all was for nobody, or is kept for the next connection
            self._write_out(ready)

    def _write_out(self, ready: list[bytes]) -> None:
        if self.is_connected and self._transport is not None:
            try:
                self._transport.write(b"".join(ready))
                return
            except RuntimeError:  # uvloop: the socket is closed, and nats-py does not know yet
                pass
        # The connection ended within this turn, so the next connection sends these messages.
        self._pending.extend(ready)
        self._pending_data_size += sum(map(len, ready))

    async def _read_loop(self) -> None:
        """nats-py's own ends at an exception that it did not foresee, and would leave a connection
        that nobody reads."""
        Reader.place(self)
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):  # as the process ends
            await self._process_op_err(nats_errors.Error("nats: the reader has ended"))

    async def drained(self) -> None:
        """Wait until the socket's buffer is below its high-water mark."""
        if self._transport is not None and self.is_connected:
            await self._transport.drain()  # type: ignore[no-untyped-call]


class Reader:
    """A protocol of asyncio. It reads whole messages for handlers, and gives all else to the
    protocol of asyncio's streams, from which nats-py's own task reads. As long as nats-py has
    something of a message, or has not come to read, all that follows goes there, too, so the order
    is kept."""

    @classmethod
    def place(cls, client: DirectClient) -> None:
        """Put one in the place of the protocol of a connection. A WebSocket has none."""
        stream = getattr(client._transport, "_io_reader", None)
        writer = getattr(client._transport, "_io_writer", None)
        if stream is not None and writer is not None:
            inner = writer.transport.get_protocol()
            if inner is not None:  # as it is of a connection that has ended meanwhile
                writer.transport.set_protocol(cls(client, inner, stream))

    def __init__(self, client: DirectClient, inner: Any, stream: Any) -> None:
        self._client = client
        self._parser = client._ps
        self._stream = stream
        self._kept = bytearray()
        """A message of which not all has come."""
        self._need = 0
        """Bytes that must have come of it before it is worth a look; 0: it is nats-py's."""
        self._pass_on = inner.data_received
        self.eof_received = inner.eof_received
        self.connection_lost = inner.connection_lost
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if not self._client.is_connected or (
            self._stream._buffer or parser.buf or parser.state != AWAITING_CONTROL_LINE
        ):
            self._pass_on(data)
            return
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at = self._client.read_from(self, data)
        if at < len(data):
            if self._need:
                self._kept += data[at:]
            else:
                self._pass_on(data[at:])

    def messages(self, data: bytes) -> int:
        """Have the messages at the beginning of `data` handled; where they end. `_need` says what
        becomes of the rest."""
        handlers, at, end, self._need = self._client.handlers, 0, len(data), 0
        while at < end:
            line = data.find(b"\r\n", at, at + _CONTROL)
            if line < 0:
                self._need = _worth(data[at : at + _CONTROL])
                break
            words, head = data[at:line].split(), 0
            try:
                if words[0] == b"HMSG":
                    head = int(words.pop(-2))
                elif words[0] != b"MSG":
                    break
                _, subject, sid, *replies, size = words
                handler = handlers.get(int(sid))
                begin, stop = line + 2, line + 2 + int(size)
            except (ValueError, IndexError):
                break
            if handler is None or len(replies) > 1 or not begin <= begin + head <= stop:
                break
            if stop + 2 > end:
                self._need = stop + 2 - at
                break
            at = stop + 2
            reply, body = replies[0] if replies else b"", data[begin + head : stop]
            named = data[begin : begin + head]
            self._client.handle(handler, int(sid), subject, reply, body, named)
        return at


def _worth(line: bytes) -> int:
    """How many bytes of a line without an end must have come before it is worth a look, if it may
    begin a message, else 0."""
    verbs = b"MSG ", b"HMSG "
    may = line.startswith(verbs) or any(verb.startswith(line) for verb in verbs)
    return len(line) + 1 if may and len(line) < _CONTROL else 0


class StreamPublisher:
    """Publishes into streams. The broker answers on subjects under `inbox`. `post` and `subscribe`
    are methods of the bus."""

    def __init__(
        self,
        post: Callable[[str, bytes, str, dict[str, str]], None],
        subscribe: Callable[[str, Handler], Awaitable[object]],
        inbox: str,
    ) -> None:
        self._post = post
        self._subscribe = subscribe
        self._inbox = inbox
        self._listens = False
        self._open: dict[str, asyncio.Future[Msg]] = {}
        self._asked = 0

    async def store(
        self, subject: str, headers: dict[str, str], payload: bytes = b"", timeout: float = 2.0
    ) -> dict[str, Any]:
        """Publish into a stream, and wait for the broker's answer: ``seq``, perhaps ``duplicate``,
        and ``val`` of a counter. Raises ApiError, or BusError if nobody answers.

        nats-py's own `request` is not used: its queue and task cost half the time of a call.
        """
        if not self._listens:  # two calls at once may both do it: answers then come twice
            await self._subscribe(f"{self._inbox}.*", self._answered)
            self._listens = True
        self._asked += 1
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        token = str(self._asked)
        self._open[token] = answer
        try:
            self._post(subject, payload, f"{self._inbox}.{token}", headers)
            async with asyncio.timeout(timeout):
                told = await answer
            if (told.headers or {}).get("Status") == _NOBODY:
                raise BusError(f"{subject}: no stream takes it")
            return said(subject, told)
        except TimeoutError:
            raise BusError(f"{subject}: no answer within {timeout:g} s") from None
        finally:
            self._open.pop(token, None)

    def _answered(self, message: Msg) -> None:
        answer = self._open.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)


def said(subject: str, answer: Msg) -> dict[str, Any]:
    """JetStream's answer. Raises ApiError."""
    found: dict[str, Any] = orjson.loads(answer.data)
    if "error" in found:
        error = found["error"]
        raise (NotFound if error.get("code") == _NOT_FOUND else ApiError)(subject, error)
    return found


def _sane(subject: str) -> bool:
    return subject.isprintable() and " " not in subject and subject != "" and subject.isascii()


def _head(headers: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in _plain(headers).items()]
    return _HEAD + "".join(lines).encode(errors="replace") + b"\r\n"


def _plain(headers: dict[str, str]) -> dict[str, str]:
    """Without line ends, which would begin another header."""
    return {name: " ".join(value.split()) for name, value in headers.items()}

"""The bus without a broker: what it makes of what the client library does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest
from nats import errors as nats_errors

from schemas import bus as buses
from schemas.bus import ApiError, Bus, BusError, BusFull, Message, NotFound
from schemas.client import DirectClient, Handler
from schemas.settings import Nats
from tests.unit import fakes


class FakeClient:
    """As much of the client as the bus uses. `direct`: the socket takes messages at once."""

    post: Any = DirectClient.post
    before_writing = after_reading = None

    def __init__(self) -> None:
        self.is_connected = True
        self.is_closed = False
        self.max_payload = 100
        self.options: dict[str, Any] = {}
        self.direct = False
        self.handlers: dict[int, Handler] = {}
        self._id = 3
        self.sent: list[tuple[str, bytes, str, object]] = []
        self.fault: Exception | None = None
        self.suspend = False
        self.flushes = self.waits = 0
        self.answer: Callable[[str, bytes], bytes] = lambda subject, payload: b"{}"
        self.calls: list[tuple[str, Any]] = []

    def write(self, subject: str, reply: str, payload: bytes, head: bytes) -> bool:
        if self.direct:
            self.sent.append((subject, payload, reply, head))
        return self.direct

    async def drained(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.waits += 1

    async def publish(
        self, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
    ) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((subject, payload, reply, headers))
        if self.suspend:
            await asyncio.sleep(3600)

    async def request(self, subject: str, payload: bytes, timeout: float) -> Message:
        if self.fault is not None:
            raise self.fault
        self.calls.append((subject.removeprefix("$JS.API."), orjson.loads(payload or b"null")))
        return fakes.message("_I.1", self.answer(subject, payload))

    async def subscribe(self, subject: str, **_: Any) -> FakeClient:
        if self.fault is not None:
            raise self.fault
        return self

    async def unsubscribe(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def flush(self, timeout: float = 10) -> None:
        if self.fault is not None:
            raise self.fault
        self.flushes += 1

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
async def real(client: FakeClient) -> Bus:
    return Bus(cast(DirectClient, client), "_I.test")


@pytest.mark.parametrize("direct", [True, False])
async def test_post_hands_over_in_one_step(real: Bus, client: FakeClient, direct: bool) -> None:
    client.direct = direct
    real.post("a", b"1")
    real.post("b", b"2", "reply", {"h": "v"})
    head = b"NATS/1.0\r\nh: v\r\n\r\n"
    heads = (b"", head) if direct else (None, {"h": "v"})
    assert client.sent == [("a", b"1", "", heads[0]), ("b", b"2", "reply", heads[1])]


@pytest.mark.parametrize(("subject", "size"), [("a b", 1), ("a", 101)])
async def test_post_refuses_what_would_break_the_connection(
    real: Bus, client: FakeClient, subject: str, size: int
) -> None:
    client.direct = True
    with pytest.raises(BusError):
        real.post(subject, bytes(size))
    assert client.sent == []


async def test_post_does_not_wait_for_a_flush(real: Bus, client: FakeClient) -> None:
    client.suspend = True
    real.post("a", b"1")
    assert client.sent == [("a", b"1", "", None)]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (nats_errors.OutboundBufferLimitError(), BusFull),
        (nats_errors.ConnectionClosedError(), BusError),
        (nats_errors.MaxPayloadError(), BusError),
    ],
)
async def test_post_says_what_is_wrong(
    real: Bus, client: FakeClient, fault: Exception, kind: type[BusError]
) -> None:
    client.fault = fault
    with pytest.raises(BusError) as caught:
        real.post("a")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "fault", [nats_errors.TimeoutError(), ConnectionResetError("gone"), ConnectionResetError()]
)
async def test_every_fault_of_a_question_is_a_bus_error(
    real: Bus, client: FakeClient, fault: Exception
) -> None:
    client.fault = fault
    with pytest.raises(BusError, match=r"^a: \S"):
        await real.request("a")
    with pytest.raises(BusError):
        await real.flush()
    with pytest.raises(BusError):
        await real.api("INFO")


@pytest.mark.parametrize(("code", "kind"), [(400, ApiError), (404, NotFound), (503, ApiError)])
async def test_api_raises_what_jetstream_refuses(
    real: Bus, client: FakeClient, code: int, kind: type[ApiError]
) -> None:
    refusal = {"error": {"code": code, "err_code": 10059, "description": "stream not found"}}
    client.answer = lambda subject, payload: orjson.dumps(refusal)
    with pytest.raises(ApiError, match=r"STREAM.INFO.X: stream not found") as caught:
        await real.api("STREAM.INFO.X")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (fakes.message("_", b'{"stream": "CREDITS", "seq": 2, "val": "7"}'), None),
        (fakes.message("_", b'{"error": {"err_code": 10169, "description": "no"}}'), ApiError),
        (fakes.message("_", b"", headers={"Status": "503"}), BusError),
    ],
    ids=["taken", "refused", "nobody"],
)
async def test_what_is_stored_is_answered(
    real: Bus, client: FakeClient, said: Message, fault: type[BusError] | None
) -> None:
    client.direct = True
    task = asyncio.create_task(real.store("credits.a", {"Nats-Incr": "+7"}, b"x"))
    await fakes.turns()
    ((to, payload, reply, headers),) = client.sent
    assert (to, payload, headers) == ("credits.a", b"x", b"NATS/1.0\r\nNats-Incr: +7\r\n\r\n")
    said.subject = reply
    client.handlers[client._id](said)
    if fault is None:
        assert (await task)["val"] == "7"
        client.handlers[client._id](said)  # said again: nobody waits any more
    else:
        with pytest.raises(BusError, match=r"credits\.a") as caught:
            await task
        assert type(caught.value) is fault


async def test_what_nobody_answers_is_given_up(real: Bus, client: FakeClient) -> None:
    client.direct = True
    with pytest.raises(BusError, match="no answer"):
        await real.store("credits.a", {}, timeout=0)


async def test_handlers_get_messages_and_may_be_stopped_twice(
    real: Bus, client: FakeClient
) -> None:
    heard: list[bytes] = []
    subscription = await real.subscribe("a", lambda message: heard.append(message.data))
    client.handlers[client._id](fakes.message("a", b"1"))
    await subscription.stop()
    assert heard == [b"1"]

    client.fault = nats_errors.BadSubscriptionError()
    await subscription.stop()  # nothing is left to stop


async def test_a_closed_connection_takes_no_handlers(real: Bus, client: FakeClient) -> None:
    client.fault = nats_errors.ConnectionClosedError()
    with pytest.raises(BusError):
        await real.subscribe("a", lambda message: None)
    assert client.handlers == {}


async def test_what_was_under_way_is_handled_after_the_stop(
    real: Bus, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buses, "_AFTERGLOW", 0)
    subscription = await real.subscribe("a", lambda message: None)
    await subscription.stop()
    assert client._id in client.handlers
    await fakes.turns()
    assert client.handlers == {}


async def test_settle_waits_for_the_socket(real: Bus, client: FakeClient) -> None:
    await real.settle()
    assert client.waits == 1
    client.fault = ConnectionResetError("gone")
    await real.settle()  # buffered from now on


async def test_each_reconnection_is_a_new_epoch(real: Bus) -> None:
    seen: list[int] = []
    real.on_reconnect(lambda: seen.append(real.epoch))
    await real._reconnected()
    await real._reconnected()
    assert seen == [1, 2]


async def test_close_hands_over_what_is_left_and_may_come_twice(
    real: Bus, client: FakeClient
) -> None:
    await real.close()
    await real.close()
    assert (client.is_closed, client.flushes) == (True, 1)


async def test_close_does_not_mind_a_broker_that_is_gone(real: Bus, client: FakeClient) -> None:
    client.fault = nats_errors.TimeoutError()
    await real.close()
    assert client.is_closed


async def test_a_broker_that_goes_away_meanwhile_costs_a_service_its_name_alone(
    real: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add_service(*_: object, **__: object) -> None:
        raise nats_errors.FlushTimeoutError

    monkeypatch.setattr("schemas.bus.micro.add_service", add_service)
    await real.serve("headrace-worker", "a worker", {}, "1.0.0")
    await real.close()


@pytest.mark.parametrize("name", ["flush", "request"])
async def test_a_cancellation_that_comes_with_the_answer_counts(
    real: Bus, client: FakeClient, name: str
) -> None:
    """nats-py waits by `asyncio.wait_for`, which drops it in Python 3.11: a worker never ended
    whose drain met the end of a flush."""
    answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def wait(*_: Any, timeout: float) -> Message:
        return await asyncio.wait_for(answer, timeout)

    setattr(client, name, wait)
    waiting = asyncio.ensure_future(real.flush() if name == "flush" else real.request("a"))
    await asyncio.sleep(0)
    answer.set_result(fakes.message("_I.1", b""))
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_what_is_cancelled_may_still_flush(real: Bus, client: FakeClient) -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await real.flush()

    working = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.wait({working})
    assert (working.cancelled(), client.flushes) == (True, 2)


async def test_a_refused_login_is_tried_again_for_a_moment(
    real: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker refuses good ones, too, while it takes a new configuration."""
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    said = buses._listeners(real, Nats(user="worker"), refused)["error_cb"]
    fault = nats_errors.Error("nats: 'Authorization Violation'")
    await said(fault)
    await said(fault)
    assert not refused.done()
    assert "reconnect_time_wait" not in real._nats.options
    monkeypatch.setattr(buses, "DOUBT", 0.0)
    await said(fault)
    assert isinstance(refused.exception(), buses.BusRefused)
    # As of one that was evicted: it asks less often from then on, until it is let in.
    assert real._nats.options["reconnect_time_wait"] == 5.0
    await real._reconnected()
    assert real._nats.options["reconnect_time_wait"] == 0.1


async def test_jobs_that_are_not_granted_yet_are_no_error(
    real: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that has just joined asks for jobs before the hub has heard of its models."""
    warned, noted = list[str](), list[str]()
    monkeypatch.setattr(buses.log, "warning", lambda event, **_: warned.append(event))
    monkeypatch.setattr(buses.log, "info", lambda event, **_: noted.append(event))
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    said = buses._listeners(real, Nats(user="worker"), refused)["error_cb"]
    pull = "$js.api.consumer.msg.next.jobs.echo-i4"
    await said(nats_errors.Error(f'nats: permissions violation for publish to "{pull}"'))
    assert (warned, noted, real.denied) == ([], ["bus.jobs_denied"], pull)
    await said(nats_errors.Error('nats: permissions violation for publish to "jobs.a.b.c"'))
    assert (warned, real.denied) == (["bus.error"], "jobs.a.b.c")

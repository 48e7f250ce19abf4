from __future__ import annotations

import orjson
import pytest

from ingress.jobs.dispatch import Dispatch, Order
from ingress.jobs.replies import Replies
from ingress.jobs.ticket import Ticket
from ingress.models.routes import Plan
from schemas import errors, frames
from schemas.bus import BusError
from schemas.frames import Frame, Kind, Op
from schemas.settings import Settings
from tests.unit.fakes import FakeBus, message
from tests.unit.ingress.jobs.recorder import Holder

A = Holder("a", 1)
PLAN = Plan("m", "m", 2, 30, 60)
MAX_BUFFER = 1000
MAX_ANSWER = 5000


def packed(*sent: Frame) -> bytes:
    return b"".join(
        frames.pack(Kind(f.kind), f.attempt, f.nonce, f.seq, f.body) for f in sent
    )  # fmt: skip


class Desk:
    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.dispatch = Dispatch(bus, "in-1", Settings())
        self.replies = Replies(bus, "in-1", self.dispatch, MAX_BUFFER, MAX_ANSWER)

    async def submit(
        self, stream: bool = True, body: bytes = b"{}", endpoint: str = "/v1/x"
    ) -> Ticket:
        order = Order(PLAN, endpoint, stream, body, "application/json", "acme", "k1")
        return await self.dispatch.submit(order)

    def hear(self, job: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        assert self.bus.deliver(message(f"r.in-1.{job}", data, headers=headers)) == 1

    def told(self, holder: str) -> list[frames.Control]:
        return [frames.unpack_control(sent) for sent in self.bus.to(f"c.{holder}")]


@pytest.fixture
async def desk(bus: FakeBus) -> Desk:
    made = Desk(bus)
    await made.replies.open()
    return made


async def test_frames_find_their_ticket(desk: Desk) -> None:
    one, other = await desk.submit(), await desk.submit()
    desk.hear(one.job.id, packed(A.claim(), A.start(), A.data(1, b"x")))
    assert (one.take(), other.holder) == (b"x", None)
    assert [control.op for control in desk.told("a")] == [Op.GO]
    desk.hear(one.job.id, packed(A.end(2)))
    assert one.ended


async def test_the_brokers_answer_to_the_publish_finds_it_too(desk: Desk) -> None:
    ticket = await desk.submit()
    desk.hear(ticket.job.id, b'{"stream":"JOBS","seq":9}')
    assert ticket.sequence == 9
    other = await desk.submit()
    desk.hear(other.job.id, b"", {"Status": "503"})
    assert isinstance(other.error, errors.BrokerUnavailable)


async def test_a_claim_that_nobody_waits_for_is_gone(desk: Desk) -> None:
    desk.hear("unknown", packed(A.claim(), A.start()))
    assert desk.told("a") == [(Op.GONE, "unknown", A.nonce, None)]
    desk.hear("unknown", b'{"seq":1}')


async def test_one_who_works_on_for_nobody_is_told(desk: Desk, bus: FakeBus) -> None:
    alive = packed(A.alive(7))
    bus.deliver(message("r.in-1.unknown", alive, "c.a"))
    assert desk.told("a") == [(Op.GONE, "unknown", A.nonce, None)]
    desk.hear("unknown", alive + packed(A.data(7, b"x")))
    assert len(desk.told("a")) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x00", b"\xc1", b"{", b"[1]", b"{}", b'{"seq":"x"}', b'{"seq":null}', b'{"error":5}',
        b'{"error":null}', packed(A.data(0, b"x"))[:-1], packed(A.data(0, b"x")) + b"\x00",
    ],
)  # fmt: skip
async def test_rubbish_does_no_harm(desk: Desk, data: bytes) -> None:
    ticket = await desk.submit()
    desk.hear(ticket.job.id, packed(A.claim()))
    desk.hear(ticket.job.id, data)
    desk.hear("unknown", data)
    desk.hear(ticket.job.id, packed(A.start(), A.data(1, b"x")))
    assert ticket.take() == b"x"


async def test_a_client_that_does_not_read_is_left(desk: Desk) -> None:
    ticket = await desk.submit()
    desk.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(MAX_BUFFER))))
    assert not ticket.done
    desk.hear(ticket.job.id, packed(A.data(2, b"x")))
    assert isinstance(ticket.error, errors.ClientTooSlow)
    assert desk.told("a")[-1].op == Op.CANCEL


async def test_a_document_may_be_large_but_not_endless(desk: Desk) -> None:
    ticket = await desk.submit(stream=False)
    desk.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(MAX_ANSWER))))
    assert not ticket.done
    desk.hear(ticket.job.id, packed(A.data(2, b"x")))
    assert isinstance(ticket.error, errors.EngineFailed)
    assert desk.told("a")[-1].op == Op.CANCEL


async def test_pictures_may_be_large_in_a_stream_too(desk: Desk) -> None:
    ticket = await desk.submit(endpoint="/v1/images/generations")
    desk.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(2 * MAX_BUFFER))))
    assert not ticket.done


async def test_a_large_body_is_handed_over_in_pieces(desk: Desk, bus: FakeBus) -> None:
    body = bytes(range(256)) * 2000
    ticket = await desk.submit(body=body)
    for at, size in ((0, 200_000), (200_000, 200_000), (400_000, 200_000), (600_000, 5)):
        bus.deliver(message(f"b.in-1.{ticket.job.id}", orjson.dumps([at, size]), "_W.1"))
    assert b"".join(bus.to("_W.1")) == body


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'["a",1]', b"[0.5,1]", b"null", b"[1,2,3]"])
async def test_a_question_for_a_piece_may_be_rubbish(desk: Desk, bus: FakeBus, data: bytes) -> None:
    ticket = await desk.submit(body=b"body")
    bus.deliver(message(f"b.in-1.{ticket.job.id}", data, "_W.1"))
    bus.deliver(message("b.in-1.unknown", b"[0,4]", "_W.1"))
    bus.deliver(message(f"b.in-1.{ticket.job.id}", b"[0,4]"))
    assert bus.to("_W.1") == []


@pytest.mark.parametrize(
    "place", ["fb.ledger", "$JS.API.STREAM.DELETE.JOBS", "usage.x", "_I.in-1.x"]
)
async def test_a_body_goes_to_no_place_but_an_inbox(desk: Desk, bus: FakeBus, place: str) -> None:
    ticket = await desk.submit(body=b'{"op":"grant"}')
    bus.deliver(message(f"b.in-1.{ticket.job.id}", b"[0,14]", place))
    assert bus.to(place) == []


@pytest.mark.parametrize("place", ["$JS.API.STREAM.PURGE.JOBS", "usage.x", "fb.ledger"])
async def test_a_verdict_goes_to_no_place_but_the_broker(
    desk: Desk, bus: FakeBus, place: str
) -> None:
    ticket, liar = await desk.submit(), Holder("a", 1)
    liar.ack = place
    desk.hear(ticket.job.id, packed(liar.claim()))
    assert ticket.holder
    ticket.revoke("silent", 0.0)
    assert bus.to(place) == []
    assert desk.told("a")[-1].op == Op.DROP


async def test_after_a_reconnection_what_may_be_lost_is_said_again(
    desk: Desk, bus: FakeBus
) -> None:
    waiting, held, stored = await desk.submit(), await desk.submit(), await desk.submit()
    desk.hear(stored.job.id, b'{"seq":9}')
    desk.hear(held.job.id, b'{"seq":8}')
    desk.hear(held.job.id, packed(A.claim(), A.start()))
    held.times.heard = 0.0
    bus.posts.clear()
    await bus.reconnect()
    assert [post.subject for post in bus.posts] == ["jobs.m.i", "c.a"]
    assert bus.posts[0].reply.endswith(waiting.job.id)
    assert desk.told("a")[-1][::3] == (Op.RESEND, 1)
    assert held.times.heard > 0


async def test_a_reconnection_that_is_over_at_once_is_no_fault(desk: Desk, bus: FakeBus) -> None:
    ticket = await desk.submit()
    bus.fault = BusError("away")
    await bus.reconnect()
    assert not ticket.done

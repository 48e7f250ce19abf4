from __future__ import annotations

import orjson
import pytest
from structlog.testing import capture_logs

from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.replies import Replies
from ingress.jobs.ticket import Ticket
from ingress.models.routes import Plan
from schemas import errors, frames
from schemas.bus import BusError
from schemas.frames import Frame, Kind, Op
from schemas.settings import Settings
from tests.unit import version_1
from tests.unit.fakes import FakeBus, message
from tests.unit.ingress.jobs.recorder import Holder

A = Holder("box.a", 1)
PLAN = Plan("m", "m", 2, 30, 60)
MAX_BUFFER = 1000
MAX_ANSWER = 5000


def packed(*sent: Frame) -> bytes:
    return b"".join(
        frames.pack(Kind(f.kind), f.attempt, f.nonce, f.seq, f.body) for f in sent
    )  # fmt: skip


class RepliesSetup:
    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.dispatch = Dispatch(bus, "in-1", Settings())
        self.replies = Replies(bus, "in-1", self.dispatch, MAX_BUFFER, MAX_ANSWER)

    async def submit(
        self, stream: bool = True, body: bytes = b"{}", endpoint: str = "/v1/x"
    ) -> Ticket:
        order = Order(PLAN, endpoint, stream, body, "application/json", "acme", "k1")
        return await self.dispatch.submit(order)

    def hear(self, job: str, data: bytes, node: str = "box") -> None:
        assert self.bus.deliver(message(f"r.in-1.{node}.{job}", data)) == 1

    def stored(self, which: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        """The broker's answer to a publish."""
        assert self.bus.deliver(message(f"_I.in-1.j.{which}", data, headers=headers)) == 1

    def told(self, holder: str) -> list[frames.Control]:
        return [frames.unpack_control(sent) for sent in self.bus.to(f"c.{holder}")]


@pytest.fixture
async def setup(bus: FakeBus) -> RepliesSetup:
    made = RepliesSetup(bus)
    await made.replies.open()
    return made


async def test_frames_find_their_ticket(setup: RepliesSetup) -> None:
    one, other = await setup.submit(), await setup.submit()
    setup.hear(one.job.id, packed(A.claim(), A.start(), A.data(1, b"x")))
    assert (one.received.take(), other.holder) == (b"x", None)
    assert [control.op for control in setup.told("box.a")] == [Op.GO]
    setup.hear(one.job.id, packed(A.end(2)))
    assert one.received.ended


async def test_who_waits_alone_is_held_against_nobody(
    setup: RepliesSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot is for its job in any case. With two that wait there is a choice."""
    asked = list[str]()

    def hear(job: str, *_: object) -> bool:
        asked.append(job)
        return True

    monkeypatch.setattr(setup.dispatch.claims, "hear", hear)
    one = await setup.submit()
    setup.hear(one.job.id, packed(A.claim()))
    assert (one.holder is not None, asked) == (True, [])
    two, three = await setup.submit(), await setup.submit()
    setup.hear(two.job.id, packed(A.claim()))
    setup.dispatch.close(three)
    setup.dispatch.claims.moved[one.job.id]
    setup.hear(two.job.id, packed(A.claim()))
    assert asked == [two.job.id] * 2


async def test_the_brokers_answer_to_the_publish_finds_it_too(setup: RepliesSetup) -> None:
    ticket = await setup.submit()
    setup.stored(f"{ticket.job.id}-0", b'{"stream":"JOBS","seq":9}')
    assert ticket.postings.newest.sequence == 9
    other = await setup.submit()
    setup.stored(f"{other.job.id}-0", b"", {"Status": "503"})
    assert other.unconfirmed
    assert not other.done


async def test_a_claim_that_nobody_waits_for_is_gone(setup: RepliesSetup) -> None:
    setup.hear("unknown", packed(A.claim(), A.start()))
    assert setup.told("box.a") == [frames.Control(Op.GONE, "unknown", A.nonce, 0)]
    setup.stored("unknown-0", b'{"seq":1}')


async def test_one_who_works_on_for_nobody_is_told(setup: RepliesSetup, bus: FakeBus) -> None:
    alive = packed(A.alive(7))
    bus.deliver(message("r.in-1.box.unknown", alive, "c.box.a"))
    assert setup.told("box.a") == [frames.Control(Op.GONE, "unknown", A.nonce, 0)]
    setup.hear("unknown", alive + packed(A.data(7, b"x")))
    assert len(setup.told("box.a")) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x00", b"\xc1", b"{", b"[1]", b"{}", b'{"seq":"x"}', b'{"seq":null}', b'{"error":5}',
        b'{"error":null}', packed(A.data(0, b"x"))[:-1], packed(A.data(0, b"x")) + b"\x00",
    ],
)  # fmt: skip
async def test_rubbish_does_no_harm(setup: RepliesSetup, data: bytes) -> None:
    ticket = await setup.submit()
    setup.hear(ticket.job.id, packed(A.claim()))
    setup.hear(ticket.job.id, data)
    setup.hear("unknown", data)
    setup.hear(ticket.job.id, packed(A.start(), A.data(1, b"x")))
    assert ticket.received.take() == b"x"


@pytest.mark.parametrize("sent", [version_1.CLAIM, version_1.DATA])
@pytest.mark.parametrize("known", [True, False])
async def test_frames_of_version_1_are_refused_and_said_once(
    setup: RepliesSetup, sent: bytes, known: bool
) -> None:
    ticket = await setup.submit()
    with capture_logs() as lines:
        for _ in range(3):
            setup.hear(ticket.job.id if known else "unknown", sent)
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["version"]) == ("replies.refused", 1)
    assert "a frame of protocol version 1, and this process speaks 4" in line["error"]
    assert (ticket.holder, ticket.done, setup.told("attic.w-old")) == (None, False, [])
    setup.hear(ticket.job.id, packed(A.claim()))
    assert ticket.holder is not None


async def test_a_client_that_does_not_read_is_left(setup: RepliesSetup) -> None:
    ticket = await setup.submit()
    setup.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(MAX_BUFFER))))
    assert not ticket.done
    setup.hear(ticket.job.id, packed(A.data(2, b"x")))
    assert isinstance(ticket.received.error, errors.ClientTooSlow)
    assert setup.told("box.a")[-1].op == Op.CANCEL


async def test_a_document_may_be_large_but_not_endless(setup: RepliesSetup) -> None:
    ticket = await setup.submit(stream=False)
    setup.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(MAX_ANSWER))))
    assert not ticket.done
    setup.hear(ticket.job.id, packed(A.data(2, b"x")))
    assert isinstance(ticket.received.error, errors.EngineFailed)
    assert setup.told("box.a")[-1].op == Op.CANCEL


async def test_pictures_may_be_large_in_a_stream_too(setup: RepliesSetup) -> None:
    ticket = await setup.submit(endpoint="/v1/images/generations")
    setup.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, bytes(2 * MAX_BUFFER))))
    assert not ticket.done


async def test_a_large_body_is_handed_over_in_pieces(setup: RepliesSetup, bus: FakeBus) -> None:
    body = bytes(range(256)) * 2000
    ticket = await setup.submit(body=body)
    for at, size in ((0, 200_000), (200_000, 200_000), (400_000, 200_000), (600_000, 5)):
        bus.deliver(message(f"b.in-1.box.{ticket.job.id}", orjson.dumps([at, size]), "_W.1"))
    assert b"".join(bus.to("_W.1")) == body


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'["a",1]', b"[0.5,1]", b"null", b"[1,2,3]"])
async def test_a_question_for_a_piece_may_be_rubbish(
    setup: RepliesSetup, bus: FakeBus, data: bytes
) -> None:
    ticket = await setup.submit(body=b"body")
    bus.deliver(message(f"b.in-1.box.{ticket.job.id}", data, "_W.1"))
    bus.deliver(message("b.in-1.box.unknown", b"[0,4]", "_W.1"))
    bus.deliver(message(f"b.in-1.box.{ticket.job.id}", b"[0,4]"))
    assert bus.to("_W.1") == []


async def test_a_claim_is_of_the_node_that_sends_it(setup: RepliesSetup, bus: FakeBus) -> None:
    """The broker lets a node's login publish under its own name alone."""
    ticket = await setup.submit()
    setup.hear(ticket.job.id, packed(A.claim()), node="attic")
    bus.deliver(message("r.in-1.attic.unknown", packed(A.alive(7)), "c.box.a"))
    for reply in ("$JS.API.STREAM.DELETE.JOBS", "c.*.a", "c.box", "_W.box.a"):
        bus.deliver(message("r.in-1.box.unknown", packed(A.alive(7)), reply))
    assert (ticket.holder, setup.told("box.a")) == (None, [])
    assert len(bus.posts) == 1, "the job, and nothing else"
    setup.hear(ticket.job.id, packed(A.claim()))
    assert ticket.holder is not None


@pytest.mark.parametrize(
    "data", [b"\x00", b"[1]", b"{", b"{}", b'{"seq":"x"}', b'{"seq":null}', b'{"error":5}']
)
async def test_a_broker_that_answers_rubbish_does_no_harm(setup: RepliesSetup, data: bytes) -> None:
    ticket = await setup.submit()
    setup.stored(f"{ticket.job.id}-0", data)
    setup.stored("x", data)
    setup.hear(ticket.job.id, packed(A.claim(), A.start(), A.data(1, b"x")))
    assert ticket.received.take() == b"x"


@pytest.mark.parametrize("place", ["$JS.API.STREAM.PURGE.JOBS", "usage.x", "fb.ledger"])
async def test_a_verdict_goes_to_no_place_but_the_broker(
    setup: RepliesSetup, bus: FakeBus, place: str
) -> None:
    ticket, liar = await setup.submit(), Holder("box.a", 1)
    liar.ack = place
    setup.hear(ticket.job.id, packed(liar.claim()))
    assert ticket.holder
    ticket.revoke("silent", 0.0)
    assert bus.to(place) == []
    assert setup.told("box.a")[-1].op == Op.DROP


async def test_after_a_reconnection_what_may_be_lost_is_said_again(
    setup: RepliesSetup, bus: FakeBus
) -> None:
    waiting, held, stored = await setup.submit(), await setup.submit(), await setup.submit()
    setup.stored(f"{stored.job.id}-0", b'{"seq":9}')
    setup.stored(f"{held.job.id}-0", b'{"seq":8}')
    setup.hear(held.job.id, packed(A.claim(), A.start()))
    assert held.holder is not None
    held.holder.heard = 0.0
    bus.posts.clear()
    await bus.reconnect()
    assert [post.subject for post in bus.posts] == ["jobs.m.i4.acme", "c.box.a"]
    assert bus.posts[0].reply.endswith(f"{waiting.job.id}-0")
    assert setup.told("box.a")[-1][::3] == (Op.RESEND, 1)
    assert held.holder.heard > 0


async def test_a_reconnection_that_is_over_at_once_is_no_fault(
    setup: RepliesSetup, bus: FakeBus
) -> None:
    ticket = await setup.submit()
    bus.fault = BusError("away")
    await bus.reconnect()
    assert not ticket.done

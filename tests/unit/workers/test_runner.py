from __future__ import annotations

import asyncio
import time

import pytest

from schemas import frames
from schemas.bus import BusError, Message
from schemas.frames import End, Frame, Kind, Op
from schemas.jobs import Job
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import runner as runners
from workers.consumer import IN_PROGRESS, NAK, TERM, Puller
from workers.engines.base import EngineFault, Offer, Sink
from workers.runner import Runner

CONFIG = Settings()
STALL = CONFIG.worker.stall


class Engine:
    """An engine that does what the test says. `body` is what the last job asked."""

    name, kind = "e", "fake"

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None
        self.cancelled = self.probes = 0
        self.alive = True
        self.body = b""

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        self.body = body
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        sink.start(200, "application/json")
        sink.data(b"{}")
        return End(1, 2, 0, 3)

    async def probe(self) -> bool:
        self.probes += 1
        if self.fault is not None:
            raise self.fault
        return self.alive

    async def discover(self) -> Offer: ...  # type: ignore[empty-body]
    async def check(self) -> None: ...
    async def close(self) -> None: ...


class Desk:
    """One slot."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.busy = 0
        self.suspected: list[EngineFault] = []

    def take(self) -> None:
        self.busy += 1

    def release(self) -> None:
        self.busy -= 1

    def suspect(self, fault: EngineFault) -> None:
        self.suspected.append(fault)


class Shop:
    """A runner with one engine of one slot, and what it says to the broker and the ingress."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.engine = Engine()
        self.desk = Desk(self.engine)
        self.runner = Runner(bus, "w-1", "node", CONFIG)
        self.puller = Puller(
            bus, "echo", "i", free=lambda: 1 - self.desk.busy, on_job=self._take, expires=2.0
        )

    def _take(self, puller: Puller, message: Message) -> None:
        self.runner.take(self.desk, puller, message)

    def deliver(self, job: Job | bytes | None = None, delivered: int = 1) -> None:
        job = fakes.job() if job is None else job
        data = job.pack() if isinstance(job, Job) else job
        if self.desk.busy:  # to another puller of this runner
            self._take(self.puller, fakes.message("_W.p", data, fakes.ack(delivered)))
        else:
            inbox = self.bus.subscriptions[-1].subject
            self.bus.deliver(fakes.message(inbox, data, fakes.ack(delivered)))

    def claim(self) -> Frame:
        return next(f for f in self.frames() if f.kind == Kind.CLAIM)

    def frames(self) -> list[Frame]:
        subject = f"r.in-1.{fakes.job().id}"
        return [frame for sent in self.bus.to(subject) for frame in frames.unpack(sent)]

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames()]

    def told(self, delivered: int = 1) -> list[bytes]:
        """What the broker was told of the delivery."""
        return self.bus.to(fakes.ack(delivered))

    async def claimed(self) -> None:
        await self.bus.until(lambda _: Kind.CLAIM in self.kinds())

    def say(self, op: Op, argument: object = None, nonce: int | None = None) -> None:
        nonce = self.claim().nonce if nonce is None else nonce
        control = frames.pack_control(op, fakes.job().id, nonce, argument)
        self.bus.deliver(fakes.message("c.w-1", control))

    async def idle(self) -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            await self.runner.idle.wait()
        assert self.desk.busy == 0


@pytest.fixture
async def shop(bus: FakeBus) -> Shop:
    made = Shop(bus)
    await made.runner.open()
    await made.puller.open()
    bus.posts.clear()
    return made


async def started(shop: Shop) -> Shop:
    """A job runs, and the engine does not end by itself."""
    shop.engine.open.clear()
    shop.deliver()
    await shop.engine.began.wait()
    return shop


async def test_claim_frames_end_then_the_ack(shop: Shop) -> None:
    shop.deliver()
    assert shop.desk.busy == 1
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.kinds() == [Kind.CLAIM, Kind.START, Kind.DATA, Kind.END]
    assert shop.claim().body == ("w-1", "node", "e", fakes.ack())
    assert shop.frames()[-1].body == (1, 2, 0, 3)
    assert shop.engine.body == fakes.job().body
    (ack,) = shop.told()
    assert ack.startswith(b"+NXT")
    assert shop.bus.posts[-1].subject == fakes.ack()


async def test_a_first_attempt_begins_before_it_may_but_is_not_acked(shop: Shop) -> None:
    shop.deliver()
    await shop.bus.until(lambda _: Kind.END in shop.kinds())
    await fakes.turns()
    assert (shop.told(), shop.desk.busy) == ([], 1)
    shop.say(Op.GO)
    shop.say(Op.GO)
    await shop.idle()
    assert len(shop.told()) == 1


async def test_a_later_attempt_waits_until_it_may(shop: Shop) -> None:
    shop.deliver(delivered=2)
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(Op.GO)
    await shop.idle()
    assert len(shop.told(2)) == 1


async def test_a_large_body_is_fetched_once_the_job_is_held(shop: Shop) -> None:
    async def hand_over(subject: str, payload: bytes) -> Message:
        return fakes.message("_W.1", b"12345")

    shop.bus.answer = hand_over
    shop.deliver(fakes.job(body=b"", body_size=5))
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.engine.body == b"12345"


async def test_a_body_that_does_not_come_is_retried_elsewhere(shop: Shop) -> None:
    shop.deliver(fakes.job(body=b"", body_size=5))
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.frames()[-1].kind == Kind.FAIL
    assert shop.told() == [NAK]


async def test_cancelled_it_fails_then_terms(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.GO)
    shop.say(Op.CANCEL)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.kinds() == [Kind.CLAIM, Kind.FAIL]
    assert shop.frames()[-1].body[0] == "client_gone"
    assert shop.told() == [TERM]
    assert shop.bus.posts[-2].subject == fakes.ack()  # the next pull comes last


async def test_dropped_it_says_nothing_to_the_broker(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.DROP)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.told() == []


@pytest.mark.parametrize("argument", [None, "", "the last error"])
async def test_gone_it_terms(shop: Shop, argument: object) -> None:
    shop.deliver(delivered=4)
    await shop.claimed()
    shop.say(Op.GONE, argument)
    await shop.idle()
    assert not shop.engine.began.is_set()
    assert shop.told(4) == [TERM]


async def test_asked_to_resume_it_declines(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.RESUME, "so far")
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("stream_broken", False)
    assert shop.told() == [TERM]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (EngineFault("broke"), NAK),
        (EngineFault("away", away=True), NAK),
        (EngineFault("no", code="invalid_request", retryable=False), TERM),
    ],
)
async def test_a_fault_is_told_and_judged(shop: Shop, fault: EngineFault, verdict: bytes) -> None:
    shop.engine.fault = fault
    shop.deliver()
    await shop.idle()
    last = shop.frames()[-1]
    assert (last.kind, last.body) == (Kind.FAIL, (fault.code, fault.message, fault.retryable))
    assert shop.told() == [verdict]
    assert shop.desk.suspected == [fault]


async def test_a_fault_of_ours_ends_the_job_alone(shop: Shop) -> None:
    shop.engine.fault = ZeroDivisionError("detail")
    shop.deliver()
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("internal_error", False)
    assert "detail" not in shop.frames()[-1].body[1]
    assert shop.told() == [TERM]
    shop.engine.fault = None
    shop.deliver()
    assert shop.desk.busy == 1


async def test_a_job_past_its_deadline_is_not_begun(shop: Shop) -> None:
    shop.deliver(fakes.job(total_by=5))
    await shop.idle()
    assert Kind.CLAIM not in shop.kinds()
    assert shop.told() == [TERM]


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x90"])
async def test_what_is_no_job_is_removed(shop: Shop, data: bytes) -> None:
    shop.deliver(data)
    assert (shop.told(), shop.desk.busy) == ([TERM], 0)
    assert shop.runner.idle.is_set()


async def test_a_delivery_without_an_ack_subject_is_removed(shop: Shop) -> None:
    message = fakes.message("_W.p", fakes.job().pack(), "somewhere")
    shop.runner.take(shop.desk, shop.puller, message)
    assert shop.bus.to("somewhere") == [TERM]


async def test_redelivered_to_its_own_holder_it_runs_once(shop: Shop) -> None:
    await started(shop)
    shop.deliver(delivered=2)
    assert (shop.desk.busy, shop.told(2)) == (1, [])
    shop.say(Op.GO)
    shop.engine.open.set()
    await shop.idle()
    assert shop.kinds().count(Kind.CLAIM) == 1


async def test_an_ack_that_cannot_be_sent_is_no_fault(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.GO)
    shop.bus.fault = BusError("away")
    shop.engine.open.set()
    await shop.idle()
    assert shop.told() == []


async def test_words_for_another_delivery_are_passed_over(shop: Shop) -> None:
    await started(shop)
    for op in (Op.GO, Op.DROP, Op.CANCEL):
        shop.say(op, nonce=5)
    shop.bus.deliver(fakes.message("c.w-1", b"rubbish"))
    shop.bus.deliver(fakes.message("c.w-1", frames.pack_control(Op.DROP, "other", 5)))
    shop.say(77)  # type: ignore[arg-type]
    await fakes.turns()
    assert (shop.desk.busy, shop.engine.cancelled) == (1, 0)
    await shop.runner.abandon("end of test")


async def test_what_was_lost_is_sent_again_also_after_the_end(shop: Shop) -> None:
    shop.deliver()
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    nonce = shop.claim().nonce
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 1, nonce)
    assert [(f.kind, f.seq) for f in shop.frames()] == [(Kind.DATA, 1), (Kind.END, 2)]
    shop.runner.tick(time.monotonic() + 60)
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 1, nonce)
    assert shop.frames() == []


async def test_rings_are_forgotten_when_they_are_too_many_bytes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_KEEP_BYTES", 1)
    shop.deliver()
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    nonce = shop.claim().nonce
    shop.runner.tick(time.monotonic())
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 0, nonce)
    assert shop.frames() == []


async def test_while_it_runs_the_lease_is_prolonged(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.GO)
    shop.runner.tick(time.monotonic())
    assert shop.told() == [IN_PROGRESS]
    assert (shop.bus.posts[-1].reply, shop.kinds()[-1]) == ("c.w-1", Kind.ALIVE)
    await shop.runner.abandon("end of test")


async def test_an_unanswered_claim_is_repeated_then_given_up(shop: Shop) -> None:
    await started(shop)
    began = time.monotonic()
    shop.runner.tick(began + 0.3)
    assert shop.kinds().count(Kind.CLAIM) == 1
    shop.runner.tick(began + 0.8)
    shop.runner.tick(began + 1.3)
    assert shop.kinds().count(Kind.CLAIM) == 3
    shop.runner.tick(began + runners.CLAIM_PATIENCE + 0.3)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.told()[-1] == TERM


async def test_while_the_broker_is_away_no_claim_is_given_up(shop: Shop) -> None:
    await started(shop)
    began = time.monotonic()
    shop.bus.up = False
    shop.runner.tick(began + 10)
    shop.bus.up = True
    shop.runner.tick(began + 10 + runners.CLAIM_PATIENCE - 0.1)
    await fakes.turns()
    assert shop.desk.busy == 1
    assert TERM not in shop.told()
    await shop.runner.abandon("end of test")


def unheard(shop: Shop) -> None:
    headers = {"Status": "503", "Nats-Subject": f"r.in-1.{fakes.job().id}"}
    shop.bus.deliver(fakes.message("c.w-1", headers=headers))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The runner's monotonic clock, in its only element."""
    now = [time.monotonic()]
    monkeypatch.setattr(runners, "time", _Clock(now))
    return now


class _Clock:
    def __init__(self, now: list[float]) -> None:
        self._now = now
        self.time = time.time

    def monotonic(self) -> float:
        return self._now[0]


async def test_an_ingress_that_is_gone_has_its_jobs_removed(shop: Shop, clock: list[float]) -> None:
    await started(shop)
    shop.say(Op.GO)
    for _ in range(7):
        assert shop.desk.busy == 1
        unheard(shop)
        clock[0] += 0.5
    unheard(shop)
    await shop.idle()
    assert shop.told() == [TERM]


async def test_an_ingress_that_was_away_now_and_then_is_not_gone(
    shop: Shop, clock: list[float]
) -> None:
    await started(shop)
    shop.say(Op.GO)
    for _ in range(20):
        unheard(shop)
        clock[0] += 5
    await fakes.turns()
    assert shop.desk.busy == 1
    unheard_of = fakes.message("c.w-1", headers={"Status": "503"})
    shop.bus.deliver(unheard_of)
    await shop.runner.abandon("end of test")


async def test_an_engine_without_progress_loses_its_jobs(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.GO)
    shop.runner.tick(time.monotonic() + STALL + 1)
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("engine_failed", True)
    assert shop.told() == [NAK]
    assert shop.desk.suspected[0].away


async def test_a_silent_engine_that_still_turns_keeps_its_jobs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started(shop)
    shop.say(Op.GO)
    now = time.monotonic()
    for later in (3, 6, 9):
        monkeypatch.setattr("workers.attempt.time.monotonic", lambda now=now, s=later: now + s)
        shop.runner.tick(now + later)
        shop.runner.tick(now + later)
        await fakes.turns()
    assert shop.engine.probes == 3
    shop.runner.tick(now + 9 + STALL - 1)
    assert shop.told().count(NAK) == 0
    await shop.runner.abandon("end of test")


@pytest.mark.parametrize("fault", [None, EngineFault("no answer")])
async def test_a_silent_engine_that_hangs_loses_them(shop: Shop, fault: EngineFault | None) -> None:
    await started(shop)
    shop.say(Op.GO)
    shop.engine.alive, shop.engine.fault = False, fault
    now = time.monotonic()
    for later in (3.0, 6.0, STALL + 1):
        shop.runner.tick(now + later)
        await fakes.turns()
    await shop.idle()
    assert shop.engine.probes == 2
    assert shop.told()[-1] == NAK


async def test_abandoned_jobs_go_back(shop: Shop) -> None:
    await started(shop)
    shop.say(Op.GO)
    await shop.runner.abandon("stopped")
    assert shop.told() == [NAK]
    assert shop.frames()[-1].body == ("engine_failed", "stopped", True)
    assert shop.runner.running == {}


async def test_an_answer_of_one_who_may_have_lost_its_lease_is_not_acked(
    shop: Shop, clock: list[float]
) -> None:
    await started(shop)
    shop.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    shop.engine.open.set()
    await shop.idle()
    assert shop.kinds()[-1] == Kind.END
    assert shop.told() == []

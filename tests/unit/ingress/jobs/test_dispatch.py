from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from ingress.jobs import dispatch as dispatches
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.models.locality import ANY, CLOUD, LOCAL
from ingress.models.routes import Plan
from schemas import errors, frames, jobs, subjects
from schemas.bus import ApiError, BusError, BusFull
from schemas.frames import Op
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.ingress.jobs.recorder import Holder

A = Holder("a", 1)
WHY = "maximum messages per subject exceeded"
FULL = orjson.dumps({"error": {"code": 503, "err_code": 10077, "description": WHY}})
PLAN = Plan("chat", "llama.3", claim=2, first_token=30, total=60)


def _order(body: bytes = b"{}", **changed: Any) -> Order:
    fields: dict[str, Any] = {
        "endpoint": "/v1/x",
        "stream": True,
        "content_type": "application/json",
    }
    fields |= {"plan": PLAN, "account": "acme", "key": "k1"}
    return Order(body=body, **{**fields, **changed})


@pytest.fixture
async def dispatch(bus: FakeBus) -> Dispatch:
    return Dispatch(bus, "in-1", Settings(), lambda model, lane: 2)


async def test_a_job_is_registered_and_published(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order(lenient=True))
    (post,) = bus.posts
    job = jobs.unpack(post.payload)
    assert dispatch.tickets == {job.id: ticket}
    assert post.subject == "jobs.llama,3.i4.acme"
    assert post.reply == f"_I.in-1.j.{job.id}-0"
    assert post.headers["Nats-Msg-Id"] == f"acme:{job.id}:0"
    assert post.headers["Nats-TTL"] == "65s"
    assert (job.account, job.key, job.stream, job.ingress) == ("acme", "k1", True, "in-1")
    assert (job.claim_by - job.arrived, job.first_by - job.arrived) == (2000, 30_000)
    assert job.total_by - job.arrived == 60_000
    assert (job.body, job.body_size, job.edition) == (b"{}", 0, 0)
    assert (job.model, job.asked, job.lenient, job.local) == ("llama.3", "chat", True, False)
    assert len(job.id) == 32


async def test_a_step_of_the_clock_does_not_shorten_what_is_published_again(
    dispatch: Dispatch, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await dispatch.submit(_order())
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    dispatch.confirm(ticket)
    assert [post.headers["Nats-TTL"] for post in bus.posts] == ["65s", "65s"]


async def test_a_job_says_that_it_was_published_before(dispatch: Dispatch, bus: FakeBus) -> None:
    """Repeated before the broker has confirmed it, it is the same message still."""
    ticket = await dispatch.submit(_order())
    dispatch.confirm(ticket)
    ticket.postings.publish_copy()
    ticket.move(0.0)
    found = [jobs.unpack(post.payload) for post in bus.posts]
    assert [job.edition for job in found] == [0, 0, 1, 2]
    assert [job.again for job in found] == [False, False, True, True]


async def test_what_the_broker_keeps_is_not_repeated(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    dispatch.confirm(ticket)
    assert len(bus.posts) == 1


@pytest.mark.parametrize(
    ("mixed", "reach", "local"),
    [(True, LOCAL, True), (True, ANY, False), (False, LOCAL, False), (True, CLOUD, False)],
)
async def test_a_job_that_no_provider_may_see_says_so_where_others_may_go(
    dispatch: Dispatch, mixed: bool, reach: str, local: bool
) -> None:
    plan = dataclasses.replace(PLAN, mixed=mixed, reach=reach)
    ticket = await dispatch.submit(dataclasses.replace(_order(), plan=plan))
    assert ticket.job.local == local


async def test_a_batch_job_has_deadlines_of_its_own_and_is_not_hedged(dispatch: Dispatch) -> None:
    plan = dataclasses.replace(PLAN, hedge=1.0, reach=ANY)
    ticket = await dispatch.submit(_order(plan=plan, lane=subjects.BATCH))
    job, limits = ticket.job, Settings().routes
    assert job.lane == subjects.BATCH
    assert job.claim_by - job.arrived == limits.batch_claim * 1000
    assert job.first_by == job.total_by
    assert job.total_by - job.arrived == limits.batch_total * 1000
    assert (ticket.terms.may_leave, ticket.terms.hedge_after) == (True, 0.0)


async def test_a_full_batch_lane_is_no_full_queue_of_the_others(bus: FakeBus) -> None:
    """Also of those that count as interactive by now."""
    config = Settings.model_validate({"jobs": {"queue_depth": 2}})
    dispatch = Dispatch(bus, "in-1", config, lambda model, lane: 2)
    batch = [await dispatch.submit(_order(lane=subjects.BATCH)) for _ in range(3)]
    assert [isinstance(each.received.error, errors.QueueFull) for each in batch] == [0, 0, 1]
    for ticket in batch[:2]:
        ticket.publish_again(0.0, subjects.INTERACTIVE)
    assert [(await dispatch.submit(_order())).received.error for _ in range(2)] == [None] * 2
    for ticket in list(dispatch.tickets.values()):
        dispatch.close(ticket)
    lanes = subjects.INTERACTIVE, subjects.BATCH
    assert [dispatch.queues.of("llama.3", lane).open for lane in lanes] == [0, 0]


async def test_what_is_for_providers_alone_has_their_lane_whatever_was_asked_for(
    dispatch: Dispatch,
) -> None:
    plan = dataclasses.replace(PLAN, reach=CLOUD)
    ticket = await dispatch.submit(_order(plan=plan, lane=subjects.BATCH))
    assert ticket.job.lane == subjects.CLOUD
    assert ticket.job.claim_by - ticket.job.arrived == PLAN.claim * 1000


async def test_jobs_of_one_request_know_of_each_other(dispatch: Dispatch, bus: FakeBus) -> None:
    await dispatch.submit_all([_order(), _order(), _order()])
    found = [jobs.unpack(post.payload) for post in bus.posts]
    ids = tuple(job.id for job in found)
    assert len(set(ids)) == 3
    assert {len(id) for id in ids} == {32}
    assert [job.ids for job in found] == [ids] * 3
    alone = await dispatch.submit(_order())
    assert alone.job.ids == (alone.job.id,)


async def test_no_two_jobs_share_an_id(dispatch: Dispatch) -> None:
    tickets = [await dispatch.submit(_order()) for _ in range(50)]
    assert len({ticket.job.id for ticket in tickets}) == 50


async def test_a_large_body_stays_here(dispatch: Dispatch) -> None:
    limit = Settings().ingress.inline_body
    small = await dispatch.submit(_order(b"x" * limit))
    large = await dispatch.submit(_order(b"x" * (limit + 1)))
    assert (len(small.job.body), small.job.body_size) == (limit, 0)
    assert (large.job.body, large.job.body_size, len(large.body)) == (b"", limit + 1, limit + 1)


async def test_a_broker_that_is_away_is_waited_for(dispatch: Dispatch, bus: FakeBus) -> None:
    bus.up = False
    submitting = asyncio.create_task(dispatch.submit(_order()))
    await fakes.turns()
    assert not submitting.done()
    bus.up = True
    assert (await submitting).job.id in dispatch.tickets


async def test_a_broker_that_is_away_for_long_is_a_503(bus: FakeBus) -> None:
    bus.up = False
    hasty = Settings.model_validate({"ingress": {"broker_wait": 0.01}})
    with pytest.raises(errors.BrokerUnavailable) as caught:
        await Dispatch(bus, "in-1", hasty).submit(_order())
    assert caught.value.retry_after == 1


@pytest.mark.parametrize("fault", [BusFull("full"), BusError("closed")])
async def test_what_cannot_be_published_is_not_kept(
    dispatch: Dispatch, bus: FakeBus, fault: BusError
) -> None:
    bus.fault = fault
    with pytest.raises(errors.BrokerUnavailable):
        await dispatch.submit(_order())
    assert dispatch.tickets == {}


async def test_of_many_all_or_none_are_submitted(
    dispatch: Dispatch, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(await dispatch.submit_all([_order(), _order()])) == 2
    post = bus.post
    left = iter(range(2))

    def fail_third(*what: Any) -> None:
        if next(left, None) is None:
            raise BusFull("full")
        post(*what)

    monkeypatch.setattr(bus, "post", fail_third)
    with pytest.raises(errors.BrokerUnavailable):
        await dispatch.submit_all([_order()] * 3)
    assert len(dispatch.tickets) == 2


async def test_the_broker_says_where_it_stored_the_job(dispatch: Dispatch) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"stream":"JOBS","seq":17}')
    assert ticket.postings.newest.sequence == 17
    assert not ticket.done


async def test_a_full_queue_is_a_429_with_a_true_retry_after(dispatch: Dispatch) -> None:
    await _answered(dispatch, engine_ms=100)
    dispatch.queues.tenants["llama.3", "acme"] = 999
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, FULL)
    error = ticket.received.error
    assert isinstance(error, errors.QueueFull)
    assert error.retry_after == pytest.approx(25.05, abs=0.01), "half of a thousand at 20 a second"
    assert "1000" in error.message


async def test_a_queue_that_was_full_a_moment_ago_refuses_without_the_broker(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    """And asks it again once an answer has ended."""
    await _answered(dispatch, engine_ms=10_000)
    running = await dispatch.submit(_order())
    dispatch.answered((await dispatch.submit(_order())), 0, FULL)
    asked = len(bus.posts)
    refused = await dispatch.submit(_order())
    assert isinstance(refused.received.error, errors.QueueFull)
    assert len(bus.posts) == asked
    running.frame(A.claim(), 0)
    running.frame(A.end(0), 0)
    dispatch.close(running)
    assert not (await dispatch.submit(_order())).done
    assert jobs.unpack(bus.posts[-1].payload).model == "llama.3"


async def test_a_job_that_was_not_stored_is_a_503(dispatch: Dispatch) -> None:
    ticket = await dispatch.submit(_order())
    refusal = b'{"error":{"err_code":10023,"description":"insufficient resources"}}'
    dispatch.answered(ticket, 0, refusal)
    assert isinstance(ticket.received.error, errors.BrokerUnavailable)
    assert "insufficient" in ticket.received.error.message


@pytest.mark.parametrize("data", [b"", b'{"error":{"code":503,"err_code":10008}}'])
async def test_a_job_that_nobody_stores_now_waits(dispatch: Dispatch, data: bytes) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, data)
    assert not ticket.done
    assert ticket.unconfirmed


async def test_an_answered_job_counts_for_the_pace(dispatch: Dispatch) -> None:
    """Once; and one that the engine refused took no time that would tell anything."""
    for engine_ms in (700, 0):
        await _answered(dispatch, engine_ms)
    assert dispatch.tickets == {}
    assert list(dispatch.waits.took["llama.3"]) == [0.7]


async def _answered(dispatch: Dispatch, engine_ms: int) -> None:
    ticket = await dispatch.submit(_order())
    ticket.frame(A.claim(), 0)
    ticket.frame(A.end(0, engine_ms), 0)
    dispatch.close(ticket)
    dispatch.close(ticket)


async def test_closed_in_the_queue_the_job_is_deleted(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    dispatch.close(ticket)
    await fakes.turns()
    assert isinstance(ticket.received.error, errors.ClientGone)
    assert bus.api_calls == [("STREAM.MSG.DELETE.JOBS", {"seq": 17, "no_erase": True})]


async def test_closed_while_held_the_holder_is_cancelled(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    ticket.frame(A.claim(), 0)
    dispatch.close(ticket)
    await fakes.turns()
    told = [frames.unpack_control(sent) for sent in bus.to("c.a")]
    assert [control.op for control in told] == [Op.GO, Op.CANCEL]
    assert {(control.job, control.nonce) for control in told} == {(ticket.job.id, A.nonce)}
    assert bus.api_calls == []


async def test_a_broker_that_is_away_does_not_stop_a_ticket(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    bus.fault = BusFull("full")
    bus.api_answer = _away
    ticket.frame(A.claim(), 0)
    ticket.revoke("silent", 0)
    dispatch.dead_letter(ticket.job, "why")
    dispatch.close(ticket)
    await fakes.turns()
    assert ticket.done


def _away(verb: str, _: Any) -> dict[str, Any]:
    raise BusError(f"{verb}: timeout")


def _missing(verb: str, _: Any) -> dict[str, Any]:
    raise ApiError(verb, {"err_code": 10037, "description": "no message found"})


async def test_a_dead_letter_is_the_job_with_its_last_error(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    job = fakes.job(model="llama.3")
    dispatch.dead_letter(job, "it broke")
    (post,) = bus.posts
    assert post.subject == "dead.llama,3"
    assert jobs.unpack(post.payload) == job
    assert post.headers["Headrace-Error"] == "it broke"
    assert post.headers["Headrace-Job"] == job.id


async def test_a_job_that_vanished_is_published_anew(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    ticket.frame(Holder("b", 2).claim(), 0)
    ticket.revoke("disconnected", 0)
    bus.api_answer = _missing
    await dispatch.restore(ticket)
    first, second = (post for post in bus.posts if post.subject.startswith("jobs."))
    again = jobs.unpack(second.payload)
    assert again == dataclasses.replace(jobs.unpack(first.payload), edition=1)
    assert second.headers["Nats-Msg-Id"].endswith(":1")
    ticket.frame(Holder("a", 1, edition=1).claim(), 0)
    assert ticket.holder is not None


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
async def test_the_brokers_answers_are_told_apart_by_what_they_answer(
    dispatch: Dispatch, bus: FakeBus, order: tuple[int, ...]
) -> None:
    """A job that was hedged, and then moved before the broker had said where it keeps the copy."""
    ticket = await dispatch.submit(_order())
    ticket.postings.publish_copy()
    ticket.move(0.0)
    replies = [post.reply for post in bus.posts if post.subject.startswith("jobs.")]
    kept = {subjects.answered(reply)[1]: 17 + n for n, reply in enumerate(replies)}
    assert list(kept) == [0, 1, 2]
    for edition in order:
        dispatch.answered(ticket, edition, b'{"seq":%d}' % kept[edition])
    assert ticket.postings.newest.sequence == kept[2]
    await fakes.turns()
    deleted = {body["seq"] for _, body in bus.api_calls}
    assert deleted == {kept[0], kept[1]}, "nobody waits for what was published before"


async def test_a_copy_that_the_broker_does_not_take_is_done_without(dispatch: Dispatch) -> None:
    ticket = await dispatch.submit(_order())
    ticket.postings.publish_copy()
    dispatch.answered(
        ticket,
        1,
        b'{"error":{"err_code":10077,"description":"maximum messages per subject exceeded"}}',
    )
    assert not ticket.done


async def test_a_refusal_of_what_was_published_before_is_none(dispatch: Dispatch) -> None:
    ticket = await dispatch.submit(_order())
    ticket.move(0.0)
    dispatch.answered(
        ticket,
        0,
        b'{"error":{"err_code":10077,"description":"maximum messages per subject exceeded"}}',
    )
    assert not ticket.done


async def test_a_job_that_was_accepted_waits_for_room_if_it_is_published_anew(
    dispatch: Dispatch, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatches, "FULL_PAUSE", 0.0)
    ticket = await dispatch.submit(_order())
    ticket.move(0.0)
    sent = len(bus.posts)
    for _ in range(2):
        dispatch.answered(
            ticket,
            1,
            b'{"error":{"err_code":10077,"description":"maximum messages per subject exceeded"}}',
        )
        await fakes.turns()
    assert not ticket.done
    assert bus.posts[sent:] == [bus.posts[sent - 1]] * 2
    dispatch.close(ticket)
    dispatch.answered(
        ticket,
        1,
        b'{"error":{"err_code":10077,"description":"maximum messages per subject exceeded"}}',
    )
    await fakes.turns()
    assert len(bus.posts) == sent + 2


def _broker(job: str, delivered: int = 0) -> Callable[[str, Any], dict[str, Any]]:
    """A broker with a message of this job, and a consumer that has come so far."""
    hdrs = b64encode(f"NATS/1.0\r\nNats-Msg-Id: a:{job}:0\r\n\r\n".encode()).decode()
    name = subjects.consumer("llama.3", subjects.INTERACTIVE)
    consumers = [{"name": name, "delivered": {"stream_seq": delivered}}]

    def answer(verb: str, body: Any) -> dict[str, Any]:
        if verb.startswith("CONSUMER.LIST"):
            return {"total": 1, "consumers": consumers}
        return {"message": {"hdrs": hdrs}}

    return answer


async def test_a_job_of_which_the_broker_says_nothing_is_left(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    ticket = await dispatch.submit(_order())
    bus.api_answer = _away
    with pytest.raises(BusError):
        await dispatch.restore(ticket)
    assert len(bus.posts) == 1


@pytest.mark.parametrize(("passed", "delivered"), [(False, 17), (True, 16)])
async def test_a_job_that_is_there_is_left(
    dispatch: Dispatch, bus: FakeBus, passed: bool, delivered: int
) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    bus.api_answer = _broker(ticket.job.id, delivered)
    assert not await dispatch.restore(ticket, passed=passed)
    assert len(bus.posts) == 1


async def test_a_job_that_its_consumer_has_passed_is_published_anew(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    bus.api_answer = _broker(ticket.job.id, 17)
    assert await dispatch.restore(ticket, passed=True)
    await fakes.turns()
    assert [body["seq"] for verb, body in bus.api_calls if "DELETE" in verb] == [17]
    assert ticket.job.edition == 1


async def test_a_job_with_another_in_its_place_is_published_anew_and_the_other_stays(
    dispatch: Dispatch, bus: FakeBus
) -> None:
    ticket = await dispatch.submit(_order())
    dispatch.answered(ticket, 0, b'{"seq":17}')
    bus.api_answer = _broker("0" * 32)
    assert await dispatch.restore(ticket)
    await fakes.turns()
    assert [verb for verb, _ in bus.api_calls if "DELETE" in verb] == []
    assert ticket.job.edition == 1


async def test_a_disk_that_is_full_is_no_full_queue(dispatch: Dispatch) -> None:
    ticket = await dispatch.submit(_order())
    full = b'{"error":{"err_code":10077,"description":"no space left on device"}}'
    dispatch.answered(ticket, 0, full)
    assert isinstance(ticket.received.error, errors.BrokerUnavailable)
    assert "no space left on device" in ticket.received.error.message


async def test_a_job_that_was_claimed_meanwhile_is_left(dispatch: Dispatch, bus: FakeBus) -> None:
    ticket = await dispatch.submit(_order())

    def claimed(verb: str, body: Any) -> dict[str, Any]:
        ticket.frame(A.claim(), 0)
        return _missing(verb, body)

    bus.api_answer = claimed
    await dispatch.restore(ticket)
    assert ticket.job.edition == 0

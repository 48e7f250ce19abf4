"""Answers as clients see them: the whole application, with the frames of a holder by hand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from ingress.answer import respond
from ingress.http.protocol import CLIENT_GONE, PROBE
from ingress.jobs.line import Place
from ingress.jobs.state import Received
from ingress.jobs.ticket import Ticket
from schemas import errors, frames
from schemas.api import sse
from schemas.frames import Op
from schemas.nodes import ServedModel
from tests.unit import fakes
from tests.unit.ingress.asgi import FakeBusIngress
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder

A, B = Holder("a", 1), Holder("b", 2)
FB = FallbackHolder("fb", 1)
JSON = "application/json"
REFUSAL = {"error": {"message": "no", "type": "invalid_request_error", "code": 400}}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
QUEUE = ["x-headrace-queue-position", "x-headrace-queue-wait"]
EVENTS = [b'data: {"choices":[]}\n\n', b"data: x\n\ndata: y\n\n", b"data: [DONE]\n\n"]


def hear(ticket: Ticket, *frames: Any) -> None:
    for frame in frames:
        ticket.frame(frame, ticket.times.queued)


@pytest.fixture
async def late() -> FakeBusIngress:
    """Its keep-alives are due at once."""
    return FakeBusIngress(keepalive=0.005)


async def test_a_document_is_passed_on_byte_for_byte(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    ticket = await ingress.held(A)
    document = b'{ "odd":\t1e400 }\n'
    hear(ticket, A.start(kind="application/json; charset=utf-8"), A.data(1, document), A.end(2))
    await call.whole()
    assert (call.status, call.body) == (200, document)
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    assert call.headers["x-headrace-served-by"] == "node:node-a"
    assert call.headers["x-request-id"].startswith("req-")
    assert ingress.dispatch.tickets == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_no_header_can_carry_is_written_as_in_urls(
    ingress: FakeBusIngress, stream: bool
) -> None:
    holder = Holder("a", 1)
    holder.node = "Büro 雪\r\nset-cookie: a=b"
    call = ingress.ask(stream=stream)
    ticket = await ingress.held(holder)
    kind = "text/event-stream" if stream else "text/plain\r\nset-cookie: a=b"
    hear(ticket, holder.start(kind=kind), holder.data(1, b"data: x\n\n"), holder.end(2))
    await call.whole()
    assert call.status == 200
    served = call.headers["x-headrace-served-by"]
    assert served == "node:B%C3%BCro %E9%9B%AA%0D%0Aset-cookie: a=b"
    assert all(value.isascii() and value.isprintable() for value in call.headers.values())
    assert ingress.dispatch.tickets == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_notes_make_no_headers_but_our_own(ingress: FakeBusIngress, stream: bool) -> None:
    call = ingress.ask(stream=stream)
    ticket = await ingress.held(A)
    names = ("x-headrace-a b", "x-headrace-\r\nx", "x-headrace-ü", "set-cookie", "event", "status")
    notes = (*((name, "1") for name in names), ("x-headrace-cost", "1\r\nset-cookie: a=b"))
    kind = "text/event-stream" if stream else JSON
    hear(ticket, A.claim(), A.frame(frames.Kind.NOTE, 0, notes), A.start(1, kind=kind), A.end(2))
    await call.whole()
    assert call.status == 200
    assert call.headers["x-headrace-cost"] == "1%0D%0Aset-cookie: a=b"
    ours = [name for name in call.headers if name.startswith("x-headrace-")]
    told = [] if stream else ["x-headrace-cached-tokens"]
    assert sorted(ours) == [*told, "x-headrace-cost", *QUEUE]
    assert "set-cookie" not in call.headers


async def test_a_fault_of_ours_leaves_no_ticket(
    ingress: FakeBusIngress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Received, "served_by", lambda *_: {"x": "\u2603"})
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start())
    await call.whole()
    assert (call.status, ingress.dispatch.tickets) == (500, {})


async def test_nothing_is_sent_before_a_document_is_whole(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    ticket = await ingress.held(A)
    hear(ticket, A.start(kind=JSON), A.data(1, b"{"))
    await fakes.turns()
    assert call.status == 0
    hear(ticket, A.fail(2))
    hear(ticket, B.claim(), B.start(kind=JSON), B.data(1, b"{}"), B.end(2))
    await call.whole()
    assert (call.status, call.body) == (200, b"{}")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_of_the_engine_is_its_own(ingress: FakeBusIngress, stream: bool) -> None:
    call = ingress.ask(stream=stream)
    ticket = await ingress.held(A)
    refusal = orjson.dumps(REFUSAL)
    hear(ticket, A.start(status=400, kind=JSON), A.data(1, refusal), A.end(2))
    await call.whole()
    assert (call.status, call.json) == (400, REFUSAL)
    assert call.headers["content-type"] == JSON


async def test_a_stream_comes_event_by_event(ingress: FakeBusIngress) -> None:
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    assert call.status == 0
    hear(ticket, A.start())
    await call.until(lambda call: call.status)
    assert (call.status, call.pieces) == (200, [])
    *events, end = EVENTS
    for seq, event in enumerate(events, start=1):
        hear(ticket, A.data(seq, event))
        await call.until(lambda call, seq=seq: len(call.pieces) == seq)  # type: ignore[misc]
    hear(ticket, A.data(3, end), A.end(4))
    await call.whole()
    assert call.pieces == EVENTS
    assert call.headers["content-type"].startswith("text/event-stream")
    assert (call.headers["cache-control"], call.headers["x-accel-buffering"]) == ("no-store", "no")
    assert call.headers["x-headrace-served-by"] == "node:node-a"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("n", [1, 9])
async def test_what_is_known_at_last_is_said_before_the_end(
    ingress: FakeBusIngress, n: int, together: bool
) -> None:
    """There are clients that look for ``[DONE]`` in the last line."""
    call = ingress.ask(stream=True, n=n)
    tickets = await ingress.all_held(A, n)
    for ticket in tickets:
        hear(ticket, A.start(), A.data(1, CHUNK))
    await call.until(lambda call: call.pieces)
    for ticket in tickets:
        if together:
            hear(ticket, A.data(2, CHUNK + sse.DONE))
        else:
            hear(ticket, A.data(2, CHUNK))
            await fakes.turns()
            hear(ticket, A.data(3, sse.DONE))
        await fakes.turns()
    assert b"[DONE]" not in call.body
    for ticket in tickets:
        read, said, cached = 3, 4, 2
        more = (read, said, cached, 50, 0, 0, 0)
        hear(ticket, A.frame(frames.Kind.END, 3 if together else 4, more))
    await call.whole()
    comment = b": x-headrace-cached-tokens %d\n\n" % (cached * n)
    assert call.body.endswith(comment + sse.DONE)
    assert call.body.count(b"[DONE]") == 1


HOLD_BACK = {"x-headrace-hold-back": "true"}


async def test_a_stream_that_is_held_back_begins_anew_unseen() -> None:
    ingress = FakeBusIngress(keepalive=0.005)
    call = ingress.ask(HOLD_BACK, stream=True, logprobs=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, CHUNK), A.fail(2))
    await call.until(lambda call: b": keep-alive" in call.body)
    hear(ticket, B.claim(), B.start(), B.data(1, EVENTS[1]))
    hear(ticket, B.data(2, sse.DONE), B.end(3))
    await call.whole()
    said = [event for event in sse.split(call.body) if event != b": keep-alive"]
    assert said[0] == b": x-headrace-served-by node:node-b"
    assert said[-3:] == [*sse.split(EVENTS[1]), sse.DONE.strip()]
    assert CHUNK not in call.body
    assert "x-headrace-served-by" not in call.headers


async def test_choices_that_are_held_back_begin_anew_one_by_one() -> None:
    ingress = FakeBusIngress()
    call = ingress.ask(HOLD_BACK, stream=True, n=9)
    first, *rest = await ingress.all_held(A, 9)
    hear(first, A.start(), A.data(1, CHUNK), A.fail(2))
    for ticket in rest:
        hear(ticket, A.start(), A.data(1, CHUNK), A.data(2, sse.DONE), A.end(3))
    await fakes.turns()
    assert call.body == b""
    hear(first, B.claim(), B.start(), B.data(1, CHUNK), B.data(2, sse.DONE), B.end(3))
    await call.whole()
    assert sorted(each["choices"][0]["index"] for each in sse.objects(call.body)) == list(range(9))
    assert call.body.endswith(sse.DONE)


async def test_what_is_held_back_has_a_bound() -> None:
    ingress = FakeBusIngress(max_buffer=2**16)
    call = ingress.ask(HOLD_BACK, stream=True, logprobs=True)
    ticket = await ingress.held(A)
    long = sse.write(b"x" * 2**14)
    hear(ticket, A.start(), A.data(1, long))
    await fakes.turns()
    assert call.body == b""
    hear(ticket, A.data(2, long))
    await call.until(lambda call: long + long in call.body)
    hear(ticket, A.data(3, CHUNK))
    await call.until(lambda call: CHUNK in call.body)
    hear(ticket, A.fail(4))
    await call.whole()
    assert b"stream_interrupted" in call.body


async def test_what_others_can_go_on_from_is_not_held_back(ingress: FakeBusIngress) -> None:
    features = "chat", "chat/completions:resume"
    models = (ServedModel("echo", "e", "echo", 4, 100, features=features),)
    ingress.catalog.hear(replace(fakes.card("w-1", "echo"), models=models))
    call = ingress.ask(HOLD_BACK, stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, CHUNK))
    await call.until(lambda call: CHUNK in call.body)
    hear(ticket, A.data(2, sse.DONE), A.end(3))
    await call.whole()


async def test_a_stream_that_is_there_at_once_is_one_piece(ingress: FakeBusIngress) -> None:
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), *(A.data(i, e) for i, e in enumerate(EVENTS, 1)), A.end(4))
    await call.whole()
    assert call.pieces == [b"".join(EVENTS)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        errors.NoWorker("nobody", retry_after=5),
        errors.DeadlineExceeded("late"),
        errors.QueueFull("full", retry_after=2.4),
    ],
)
async def test_an_error_before_the_head_is_a_status(
    ingress: FakeBusIngress, stream: bool, error: errors.HeadraceError
) -> None:
    call = ingress.ask(stream=stream)
    (await ingress.submitted()).fail(error)
    await call.whole()
    assert (call.status, call.error["code"]) == (error.status, error.code)
    assert "retry-after" in call.headers or error.retry_after is None
    assert ingress.dispatch.tickets == {}


async def test_an_error_after_the_head_is_an_event_and_no_done(ingress: FakeBusIngress) -> None:
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]))
    await call.until(lambda call: call.pieces)
    hear(ticket, A.fail(2))
    await call.whole()
    assert call.pieces[0] == EVENTS[0]
    event = call.pieces[1]
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    error = orjson.loads(event[6:])["error"]
    assert (error["code"], error["source"]) == ("stream_interrupted", "worker")
    assert b"[DONE]" not in call.body


async def test_what_came_before_an_error_is_sent_before_it(ingress: FakeBusIngress) -> None:
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]))
    await call.until(lambda call: call.pieces)
    hear(ticket, A.data(2, EVENTS[1]), A.fail(3))
    await call.whole()
    assert call.pieces[1] == EVENTS[1]
    assert b"stream_interrupted" in call.pieces[2]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("why", ["it broke", "it is late"])
async def test_what_a_provider_was_paid_for_is_sent_before_an_error_of_the_same_moment(
    ingress: FakeBusIngress, why: str, n: int
) -> None:
    one_at_a_time = ServedModel("echo", "e", "echo", 4, features=("chat",))
    ingress.catalog.hear(fakes.card("w-1", models=(one_at_a_time,)))
    call = ingress.ask(stream=True, n=n)
    await ingress.bus.until(lambda posts: len(ingress.dispatch.tickets) == n)
    ticket, *others = ingress.dispatch.tickets.values()
    ticket.offer(ticket.times.queued)
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"paid"}}]}\n\n'
    hear(ticket, FB.claim(), FB.start(), FB.data(1, chunk))
    if why == "it broke":
        hear(ticket, FB.fail(2, "stream_interrupted", retryable=False))
    else:
        ticket.fail(errors.DeadlineExceeded("late"))
    await call.whole()
    assert call.status == 200
    assert [b'"content":"paid"' in piece for piece in call.pieces] == [True, False]
    assert ticket.received.error is not None
    assert ticket.received.error.code.encode() in call.pieces[1]
    assert all(other.done for other in others)


async def test_what_nobody_paid_for_gives_way_to_the_status_of_the_error(
    ingress: FakeBusIngress,
) -> None:
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]), A.fail(2, "invalid_request", retryable=False))
    await call.whole()
    assert call.status == 400


async def test_nothing_follows_the_end_of_a_stream(ingress: FakeBusIngress) -> None:
    """The worker died between its last event and its last frame."""
    call = ingress.ask(stream=True)
    ticket = await ingress.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]), A.data(2, b"data: [DONE]\n\n"))
    await call.until(lambda call: call.pieces)
    await fakes.turns()
    ticket.revoke("disconnected", 1.0)
    await call.whole()
    assert call.body.endswith(b"data: [DONE]\n\n")


async def test_no_error_follows_the_end_of_one_of_several_choices(
    ingress: FakeBusIngress,
) -> None:
    """The worker of the first died between its last event and its last frame."""
    call = ingress.ask(stream=True, n=9)
    first, *rest = await ingress.all_held(A, 9)
    hear(first, A.start(), A.data(1, EVENTS[0]), A.data(2, sse.DONE))
    await fakes.turns()
    first.revoke("disconnected", 1.0)
    assert first.received.ended is not None
    for ticket in rest:
        hear(ticket, A.start(), A.data(1, sse.DONE), A.end(2))
    await call.whole()
    assert call.body.endswith(sse.DONE)
    assert b"error" not in call.body


async def test_an_error_in_one_of_several_choices_ends_all(ingress: FakeBusIngress) -> None:
    call = ingress.ask(stream=True, n=9)
    first, *_ = await ingress.all_held(A, 9)
    hear(first, A.start(), A.data(1, CHUNK))
    await call.until(lambda call: call.pieces)
    first.revoke("disconnected", 1.0)
    await call.whole()
    assert b"stream_interrupted" in call.pieces[-1]
    assert b"[DONE]" not in call.body
    assert ingress.dispatch.tickets == {}


@pytest.mark.parametrize("n", [1, 9])
async def test_a_stream_that_ends_without_a_head_is_a_failure(
    ingress: FakeBusIngress, n: int
) -> None:
    call = ingress.ask(stream=True, n=n)
    hear((await ingress.all_held(A, n))[0], A.end(0))
    await call.whole()
    assert (call.status, call.error["code"]) == (502, "engine_failed")


async def test_while_queued_a_comment_comes_each_interval(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    await call.until(lambda call: len(call.pieces) >= 2)
    assert call.status == 200
    assert set(call.pieces) == {b": keep-alive\n\n"}
    ticket = await late.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]), A.end(2))
    await call.whole()
    assert call.pieces[-1] == EVENTS[0]


async def test_who_answers_is_a_comment_where_the_head_could_not_say(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    ticket = await late.held(A)
    await call.until(lambda call: call.pieces)
    assert "x-headrace-served-by" not in call.headers, "it may be another in the end"
    hear(ticket, A.fail(0), B.claim(), B.start(), B.data(1, EVENTS[0]), B.end(2))
    await call.whole()
    said = b": x-headrace-served-by node:node-b\n\n: x-headrace-cost 0\n\n"
    said += b": x-headrace-queue-wait 0.000\n\n: x-headrace-queue-position 1\n\n"
    assert call.pieces[-2:] == [said, EVENTS[0]]


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> FakeBusIngress:
    """Its streams say at once if they wait in a queue."""
    monkeypatch.setattr(respond, "NOTICE", 0.005)
    return FakeBusIngress()


async def test_a_stream_says_its_place_while_it_waits(told: FakeBusIngress) -> None:
    call = told.ask(stream=True)
    ticket = await told.submitted()
    told.dispatch.line.places = {ticket.job.id: Place(3, time.monotonic() + 4.2)}
    await call.until(lambda call: call.pieces)
    assert (call.status, call.pieces[0]) == (200, b": queued position=3 eta=4s\n\n")
    told.dispatch.line.places = {ticket.job.id: Place(1, None)}
    await call.until(lambda call: b": queued position=1\n\n" in call.pieces)
    hear(ticket, A.claim())
    await call.until(lambda call: call.pieces[-1] == respond.KEEP_ALIVE)
    hear(ticket, A.start(), A.data(1, EVENTS[0]), A.end(2))
    await call.whole()
    assert call.pieces[-1] == EVENTS[0]


async def test_what_waits_for_no_queue_says_nothing_of_one(told: FakeBusIngress) -> None:
    call = told.ask(stream=True)
    ticket = await told.submitted()
    told.dispatch.line.places = {"another": Place(1, None)}
    await asyncio.sleep(0.02)  # four times as long as who waits in a queue waits for a word of it
    assert call.status == 0
    hear(ticket, A.claim(), A.fail(0, retryable=False))
    await call.whole()
    assert call.status == 502


async def test_who_waited_is_told_how_long_and_from_which_place(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    ticket = await ingress.submitted()
    ingress.dispatch.line.began = {ticket.job.id: 7}
    ticket.frame(A.claim(), ticket.times.queued + 1.25)
    hear(ticket, A.start(kind=JSON), A.data(1, b"{}"), A.end(2))
    await call.whole()
    assert call.headers["x-headrace-queue-wait"] == "1.250"
    assert call.headers["x-headrace-queue-position"] == "7"


async def test_an_error_says_too_how_long_the_request_was_in_the_queue(
    ingress: FakeBusIngress,
) -> None:
    call = ingress.ask()
    ticket = await ingress.submitted()
    ticket.fail(errors.NoWorker("nobody"))
    await call.whole()
    assert call.status == 503
    assert float(call.headers["x-headrace-queue-wait"]) >= 0


async def test_of_several_jobs_the_last_ones_place_is_told(told: FakeBusIngress) -> None:
    told.catalog.hear(fakes.card("w-1", "echo", slots=1))
    call = told.ask(stream=True, n=2)
    first, second = await told.all_submitted(2)
    told.dispatch.line.places = {first.job.id: Place(2, None), second.job.id: Place(3, None)}
    await call.until(lambda call: call.pieces)
    assert call.pieces[0] == b": queued position=3\n\n"
    call.leave()
    await call.whole()


async def test_between_events_a_comment_comes_too(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    ticket = await late.held(A)
    hear(ticket, A.start(), A.data(1, EVENTS[0]))
    await call.until(lambda call: EVENTS[0] in call.pieces and b"keep" in call.pieces[-1])
    hear(ticket, A.data(2, EVENTS[2]), A.end(3))
    await call.whole()
    assert call.pieces[-1] == EVENTS[2]


async def test_an_error_while_queued_is_an_event_once_the_head_is_sent(
    late: FakeBusIngress,
) -> None:
    call = late.ask(stream=True)
    await call.until(lambda call: call.status)
    (await late.submitted()).fail(errors.NoWorker("nobody"))
    await call.whole()
    assert call.status == 200
    assert orjson.loads(call.pieces[-1][6:])["error"]["code"] == "no_worker"


async def test_a_refusal_of_the_engine_after_the_head_is_an_event(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    await call.until(lambda call: call.status)
    ticket = await late.held(A)
    refusal = orjson.dumps(REFUSAL) + b"\n"
    hear(ticket, A.start(status=400, kind=JSON), A.data(1, refusal[:9]))
    hear(ticket, A.data(2, refusal[9:]), A.end(3))
    await call.whole()
    assert orjson.loads(call.pieces[-1].removeprefix(b"data: "))["error"]["message"] == "no"
    assert b"[DONE]" not in call.body


async def test_half_a_refusal_is_not_shown(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    await call.until(lambda call: call.status)
    ticket = await late.held(A)
    hear(ticket, A.start(status=400, kind=JSON), A.data(1, b'{"error":'))
    await fakes.turns()
    hear(ticket, A.fail(2))
    hear(ticket, B.claim(), B.start(), B.data(1, EVENTS[0]), B.data(2, EVENTS[2]), B.end(3))
    await call.whole()
    events = b"".join(piece for piece in call.pieces if not piece.startswith(b":"))
    assert events == EVENTS[0] + EVENTS[2]


async def test_a_refusal_that_breaks_off_is_an_error(late: FakeBusIngress) -> None:
    call = late.ask(stream=True)
    await call.until(lambda call: call.status)
    ticket = await late.held(A)
    hear(ticket, A.start(status=400, kind=JSON), A.data(1, b'{"error":'))
    await fakes.turns()
    hear(ticket, A.fail(2))
    ticket.fail(errors.NoWorker("nobody"))
    await call.whole()
    assert b'{"error":data' not in call.body
    assert orjson.loads(call.pieces[-1][6:])["error"]["code"] == "no_worker"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_job(ingress: FakeBusIngress, stream: bool) -> None:
    call = ingress.ask(stream=stream)
    ticket = await ingress.held(A)
    hear(ticket, A.start())
    await fakes.turns()
    call.leave()
    await call.whole()
    assert isinstance(ticket.received.error, errors.ClientGone)
    assert ingress.dispatch.tickets == {}
    told = [frames.unpack_control(sent).op for sent in ingress.bus.to("c.a")]
    assert told == [Op.GO, Op.CANCEL]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_whose_task_is_cancelled_is_closed(
    ingress: FakeBusIngress, stream: bool
) -> None:
    call = ingress.ask(stream=stream)
    ticket = await ingress.held(A)
    if stream:
        hear(ticket, A.start(), A.data(1, EVENTS[0]))
        await call.until(lambda call: call.pieces)
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert isinstance(ticket.received.error, errors.ClientGone)
    assert ingress.dispatch.tickets == {}


async def test_an_end_without_a_head_is_a_failure(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    hear(await ingress.held(A), A.end(0))
    await call.whole()
    assert (call.status, call.error["code"]) == (502, "engine_failed")


async def test_leaving_after_the_answer_changes_nothing(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    ticket = await ingress.held(A)
    hear(ticket, A.start(kind=JSON), A.data(1, b"{}"), A.end(2))
    await call.whole()
    call.leave()
    assert ticket.received.error is None
    assert not {CLIENT_GONE, PROBE} & call.scope["state"].keys(), "they keep the request"


async def test_an_alarm_rings_after_a_pause_alone() -> None:
    rang = asyncio.Event()
    alarm = respond._Alarm(0.01, rang.set)
    assert not alarm.rings
    async with asyncio.timeout(fakes.PATIENCE):
        await rang.wait()
    assert alarm.rings
    alarm.stop()

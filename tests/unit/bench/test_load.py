from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.bench.http_client import Exchange
from tests.bench.load import Load, Plan, Run, arrivals, run, told
from tests.doubles.llamacpp.slots import Settings
from tests.doubles.llamacpp.wire import text
from tests.unit.doubles.llamacpp.conftest import Start

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}\n\n'
BODY = ROLE + EVENT % b"a" + EVENT % b"b" + b"data: [DONE]\n\n"


async def carried_out(plan: Plan) -> Run:
    pairs = await asyncio.wait_for(Load(plan).carry_out(), 20)
    return Run(plan, [told(*pair) for pair in pairs])


def exchanged(*pieces: bytes, stream: bool = True, cut: int = 0) -> Exchange:
    exchange = Exchange(stream, cut)
    exchange.status, exchange.end = 200, 1.0
    for piece in pieces:
        exchange.feed(piece)
    return exchange


@pytest.mark.parametrize("stream", [False, True])
async def test_a_closed_loop_sees_every_reply_to_its_end(start: Start, stream: bool) -> None:
    _, url = await start(Settings(slots=2))
    plan = Plan([url], 250, concurrency=4, stream=stream, expect=text(32))
    run = await carried_out(plan)
    assert run.failed == []
    assert [record.number for record in run.records] == list(range(250))
    assert {record.chunks for record in run.records} == {34 if stream else 0}
    assert all(r.due == r.start <= (r.first or 0) <= (r.end or 0) for r in run.records)
    assert run.seconds > 0


async def test_urls_take_turns(start: Start) -> None:
    (one, first), (two, second) = await start(Settings()), await start(Settings())
    run = await carried_out(Plan([first, second], 10))
    assert [len([e for e in mock.engine.events if e[2] == "end"]) for mock in (one, two)] == [5, 5]
    assert [record.number for record in run.of(1)] == [1, 3, 5, 7, 9]


async def test_an_open_loop_sends_at_its_times(start: Start) -> None:
    _, url = await start(Settings())
    plan = Plan([url], 20, rate=500.0, stream=True)
    run = await carried_out(plan)
    assert run.failed == []
    due = [record.due - run.records[0].due for record in run.records]
    expected = arrivals(plan)
    assert due == pytest.approx([at - expected[0] for at in expected])
    assert all(record.start >= record.due - 0.002 for record in run.records)


def test_arrivals_are_a_function_of_rate_and_seed() -> None:
    plan = Plan(["http://x"], 4000, rate=20.0, seed=7)
    assert arrivals(plan) == arrivals(plan) == sorted(arrivals(plan))
    assert arrivals(plan) != arrivals(replace(plan, seed=8))
    assert arrivals(plan)[-1] == pytest.approx(200, rel=0.1)


async def test_a_cut_client_leaves_after_its_tokens(start: Start) -> None:
    mock, url = await start(Settings(tokens=500, token_ms=1.0))
    plan = Plan([url], 8, concurrency=4, stream=True, tokens=500, cut=(1, 4))
    run = await carried_out(plan)
    assert run.failed == []
    assert all(record.cut and not record.complete for record in run.records)
    assert all(1 <= len(record.text.split()) <= 8 for record in run.records)
    while mock.engine.busy:
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 5)
    aborts = {e[4]: e[1] for e in mock.engine.events if e[2] == "abort"}
    assert set(aborts) == {str(number) for number in range(8)}
    assert all(aborts[str(r.number)] >= (r.cut or 0) - 0.001 for r in run.records)


async def test_failures_are_told(start: Start) -> None:
    _, url = await start(Settings(tokens=8))
    good = Plan([url], 2, tokens=8, expect=text(8))
    assert (await carried_out(good)).failed == []
    wrong = await carried_out(replace(good, expect="else"))
    refused = await carried_out(replace(good, tokens=-5))
    nobody = await carried_out(replace(good, urls=["http://127.0.0.1:9"]))
    assert [len(run.failed) for run in (wrong, refused, nobody)] == [2, 2, 2]
    assert refused.records[0].status == 400
    assert "max_tokens" in refused.records[0].fault
    assert nobody.records[0].fault.startswith("ConnectionRefusedError")
    assert nobody.seconds == nobody.records[0].latency == float("inf")


async def test_a_silent_server_is_waited_for_no_longer_than_said(start: Start) -> None:
    _, url = await start(Settings(slots=1, token_ms=3_600_000.0))
    run = await carried_out(Plan([url], 2, concurrency=2, stream=True, timeout=0.2))
    assert [record.fault[:12] for record in run.failed] == ["TimeoutError"] * 2


async def test_a_connection_closed_while_idle_is_no_failure(start: Start) -> None:
    mock, url = await start(Settings())
    load = Load(Plan([url], 1))
    await load.carry_out()
    for connection in list(mock.open):
        connection.transport.abort()
    _, exchange = (await load.carry_out())[0]
    assert exchange.read().complete


def test_the_first_text_is_seen_with_the_end_of_its_line_however_the_stream_is_split() -> None:
    needed = len(ROLE + EVENT % b"a") - 1  # the second newline ends the event, not the line
    for size in range(1, len(BODY)):
        exchange, seen = Exchange(stream=True), 0
        while not exchange.first:
            exchange.feed(BODY[seen : seen + size])
            seen += size
        assert seen - size < needed <= seen


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_comments_and_either_line_ending_are_understood(ending: bytes) -> None:
    body = (b": waiting\n\n" + BODY).replace(b"\n", ending)
    reply = exchanged(b": waiting" + ending * 2, body).read()
    assert (reply.text, reply.chunks, reply.complete) == ("ab", 3, True)
    assert not exchanged(b": keep-alive\n\n", ROLE).first


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (BODY.replace(b"data: [DONE]\n\n", b""), True),
        (b"", True),
        (b"{}", False),
        (b"no json", False),
        (b'{"choices":[]}', False),
    ],
)
def test_what_is_not_whole_is_not_complete(body: bytes, stream: bool) -> None:
    assert not exchanged(body, stream=stream).read().complete


def test_a_cut_is_due_at_its_token() -> None:
    exchange: Any = Exchange(stream=True, cut_after=2)
    assert [exchange.feed(piece) for piece in (ROLE, EVENT % b"a", EVENT % b"b")] == [
        False, False, True,
    ]  # fmt: skip


async def test_the_load_runs_in_a_process_of_its_own(start: Start) -> None:
    _, url = await start(Settings())
    plan = Plan([url], 20, concurrency=2, stream=True, expect=text(32))
    done = await asyncio.to_thread(run, plan, 30.0)
    assert done.failed == []
    assert len(done.records) == 20
    assert done.cpu > 0


async def test_who_is_refused_comes_back_as_told() -> None:
    """And says what each refusal took and told; once it has come back often enough, it gives up."""
    close = b"Connection: close\r\n\r\n"
    refusal = b"HTTP/1.1 429 Too Many\r\nRetry-After: 0\r\nContent-Length: 0\r\n" + close
    body = b'{"choices":[{"message":{"content":"w0"}}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b%b" % (len(body), close, body)
    left = [refusal, refusal, answer, refusal, refusal, refusal]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        run = await carried_out(Plan([url], 2, returns=2, expect="w0"))
    first, second = run.records
    assert (first.status, second.status) == (200, 429)
    assert [told for _, told in first.refusals] == [0.0] * 2
    assert [told for _, told in second.refusals] == [0.0] * 3
    assert all(took > 0 for took, _ in first.refusals)
    assert run.failed == [second]

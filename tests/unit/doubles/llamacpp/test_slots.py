"""Slots, queue, pace and connections of the double of llama-server."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import orjson

from tests.bench import procs
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.unit.doubles.llamacpp.conftest import Start
from tests.unit.doubles.llamacpp.raw_client import CHAT, STREAM, STREAM_HEAD, Client, client
from tests.unit.fakes import PATIENCE

FOR_EVER = 3_600_000.0


async def busy(c: Client) -> list[bool]:
    return [slot["is_processing"] for slot in await c.get("/slots")]


def noted(mock: LlamaCpp, *events: str) -> list[tuple[str, str | None]]:
    return [(e[2], e[4]) for e in mock.engine.events if e[2] in events]


async def test_a_dropped_stream_frees_its_slot_for_the_next_in_line(start: Start) -> None:
    mock, url = await start(Settings(slots=1, token_ms=FOR_EVER))
    async with client(url) as watch, client(url) as second, client(url) as third:
        async with client(url) as first:
            first.send("/v1/chat/completions", STREAM | {"user": "first"})
            assert await first.head() == STREAM_HEAD
            assert await busy(watch) == [True]
            second.send("/v1/chat/completions", STREAM | {"user": "second"})
            await asyncio.wait_for(deferred(watch, 1), PATIENCE)
            third.send("/v1/chat/completions", STREAM | {"user": "third"})
            await asyncio.wait_for(deferred(watch, 2), PATIENCE)
        assert await second.head() == STREAM_HEAD
        assert noted(mock, "start", "abort") == [
            ("start", "first"), ("abort", "first"), ("start", "second"),
        ]  # fmt: skip
        assert await busy(watch) == [True]


async def deferred(c: Client, count: int) -> None:
    """Return once `count` requests wait; each look is a turn of the loop that they share."""
    text = b""
    while b"llamacpp:requests_deferred %d\n" % count not in text:
        c.send("/metrics")
        text = await c.body(await c.head())


async def test_who_leaves_the_queue_never_gets_a_slot(start: Start) -> None:
    mock, url = await start(Settings(slots=1, token_ms=FOR_EVER))
    async with client(url) as watch, client(url) as third:
        async with client(url) as first:
            first.send("/v1/chat/completions", STREAM | {"user": "first"})
            await first.head()
            async with client(url) as second:
                second.send("/v1/chat/completions", STREAM | {"user": "second"})
                await asyncio.wait_for(deferred(watch, 1), PATIENCE)
            third.send("/v1/chat/completions", STREAM | {"user": "third"})
            await asyncio.wait_for(deferred(watch, 2), PATIENCE)
        await third.head()
    assert noted(mock, "start", "abort")[:4] == [
        ("start", "first"), ("abort", "first"), ("abort", "second"), ("start", "third"),
    ]  # fmt: skip


async def test_a_client_that_does_not_stream_is_generated_for_to_the_end(start: Start) -> None:
    mock, url = await start(Settings(slots=1, token_ms=1.0, tokens=5))
    async with client(url) as watch, client(url) as second:
        async with client(url) as first:
            first.send("/v1/chat/completions", CHAT | {"user": "first"})
            while not any(await busy(watch)):
                pass
        await second.ask("/v1/chat/completions", CHAT | {"user": "second"})
    assert noted(mock, "end", "abort") == [("end", "first"), ("end", "second")]


async def test_tokens_come_at_their_pace(start: Start) -> None:
    mock, url = await start(Settings(token_ms=5.0))
    async with client(url) as c:
        await c.stream(STREAM | {"max_tokens": 10})
    times = {event: at for _, at, event, _, _ in mock.engine.events}
    assert times["first"] - times["start"] >= 0.004
    assert times["end"] - times["start"] >= 0.049


async def test_events_have_ids_labels_and_the_monotonic_clock(start: Start) -> None:
    _, url = await start(Settings())
    before = time.monotonic()
    async with client(url) as c:
        _, reply = await c.ask("/v1/chat/completions", CHAT | {"user": "me"})
        told = await c.get("/mock/events")
        assert await c.get(f"/mock/events?after={told[0]['seq']}") == told[1:]
    assert [event["event"] for event in told] == ["start", "end"]
    assert {(event["id"], event["label"]) for event in told} == {(reply["id"], "me")}
    assert before <= told[0]["t_monotonic"] <= told[1]["t_monotonic"] <= time.monotonic()


async def test_requests_sent_ahead_are_answered_in_order(start: Start) -> None:
    _, url = await start(Settings(tokens=2))
    async with client(url) as c:
        c.send("/v1/chat/completions", STREAM)
        c.send("/v1/chat/completions", CHAT)
        c.send("/health")
        assert await c.head() == STREAM_HEAD
        assert len([chunk async for chunk in c.chunks()]) == 4
        assert orjson.loads(await c.body(await c.head()))["object"] == "chat.completion"
        assert await c.body(await c.head()) == b'{"status":"ok"}'


async def test_a_connection_ends_with_its_hundredth_request(start: Start) -> None:
    _, url = await start(Settings())
    async with client(url) as c:
        for _ in range(99):
            await c.get("/health")
        c.send("/health")
        head = await c.head()
        assert head.endswith(b"Content-Length: 15\r\nConnection: close\r\n\r\n")
        assert await c.reader.read() == b'{"status":"ok"}'


async def test_a_client_may_ask_for_the_end_of_the_connection(start: Start) -> None:
    _, url = await start(Settings())
    async with client(url) as c:
        c.send("/v1/chat/completions", STREAM, head="Connection: close\r\n")
        assert b"\r\nConnection: close\r\n" in await c.head()
        assert (await c.reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(start: Start) -> None:
    mock, url = await start(Settings(token_ms=FOR_EVER))
    async with client(url) as idle, client(url) as working:
        await idle.get("/health")
        working.send("/v1/chat/completions", STREAM)
        await working.head()
        for connection in list(mock.open):
            connection.close_idle(oldest=time.monotonic() + 1)
        assert await idle.reader.read() == b""
        assert not working.reader.at_eof()
        assert await busy_elsewhere(url) == 1


async def busy_elsewhere(url: str) -> int:
    async with client(url) as c:
        return sum(await busy(c))


async def test_settings_change_for_requests_to_come(start: Start) -> None:
    _, url = await start(Settings(tokens=32))
    async with client(url) as c:
        status, told = await c.ask("/mock/settings", {"tokens": 1, "burst": True})
        assert (status, told["tokens"], told["burst"]) == (200, 1, True)
        assert len(await c.stream(STREAM)) == 3
        for wrong in ({"slots": 2}, {"speed": 1}, {"token_ms": 5}, {"tokens": 0}):
            status, _ = await c.ask("/mock/settings", wrong)
            assert status == 400
        assert await c.get("/mock/settings") == told


async def test_what_is_not_http_is_refused(start: Start) -> None:
    _, url = await start(Settings())
    async with client(url) as c:
        c.writer.write(b"hello\r\n\r\n")
        assert (await c.reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_the_command_announces_itself_and_ends_when_asked(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "tests.doubles.llamacpp.server",
        "--slots",
        "3",
        "--model",
        "named",
    ]
    with procs.running("mock", argv, tmp_path / "log", announces=True) as mock:
        told = orjson.loads(mock.line(20))
        props = orjson.loads(procs.get(told["url"] + "/props"))
    assert told["pid"] == mock.pid
    assert (props["total_slots"], props["model_alias"]) == (3, "named")
    assert mock.popen.returncode == 0
    assert mock.log.read_text() == ""


async def test_it_goes_on_behind_a_begun_answer_if_it_is_to(start: Start) -> None:
    begun = [*CHAT["messages"], {"role": "assistant", "content": "w0 w1"}]
    for continues, said in ((True, " w2 w3"), (False, "w0 w1 w2 w3")):
        _, url = await start(Settings(tokens=4, continues=continues))
        async with client(url) as c:
            c.send("/v1/chat/completions", {**CHAT, "messages": begun})
            answer = orjson.loads(await c.body(await c.head()))
            c.send("/apply-template", {"messages": begun})
            template = orjson.loads(await c.body(await c.head()))
        assert answer["choices"][0]["message"]["content"] == said
        assert template.get("prompt", "").endswith("<assistant>w0 w1") == continues


async def test_thoughts_go_on_as_measured(start: Start) -> None:
    """At llama.cpp b11549 with a template that renders `reasoning_content`."""
    _, url = await start(Settings(tokens=5, continues=True, thoughts=2))
    user = CHAT["messages"]
    within = [*user, {"role": "assistant", "content": "", "reasoning_content": "w0"}]
    behind = [*user, {"role": "assistant", "content": "w3", "reasoning_content": "w0 w1"}]
    found, prompts = [], []
    async with client(url) as c:
        for messages in (user, within, behind):
            c.send("/v1/chat/completions", {**CHAT, "messages": messages})
            answer = orjson.loads(await c.body(await c.head()))
            message, tokens = answer["choices"][0]["message"], answer["usage"]["completion_tokens"]
            found.append((message.get("reasoning_content"), message["content"], tokens))
            c.send("/apply-template", {"messages": messages})
            prompts.append(orjson.loads(await c.body(await c.head()))["prompt"])
    assert found == [("w0 w1", "w3 w4", 6), (" w1", "w3 w4", 5), (None, " w4", 2)]
    assert prompts[1].endswith("<think>\nw0")
    assert prompts[2].endswith("<think>\nw0 w1\n</think>\n\nw3")

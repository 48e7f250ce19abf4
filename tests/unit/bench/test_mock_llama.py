"""The mock against what llama-server's bytes look like (b11549, read off the socket)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from tests.bench import procs
from tests.bench.mock_engine import Settings
from tests.bench.mock_llama import Server
from tests.unit.bench.conftest import Start

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}
FOR_EVER = 3_600_000.0
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
    b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Keep-Alive: timeout=5, max=100\r\n\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
    b"X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
)
TIMINGS = [
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n",
    "predicted_ms", "predicted_per_token_ms", "predicted_per_second",
]  # fmt: skip


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, path: str, body: dict[str, Any] | bytes | None = None, head: str = "") -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body) if body else b""
        method = "GET" if body is None else "POST"
        lines = (
            f"{method} {path} HTTP/1.1\r\nHost: mock\r\n{head}Content-Length: {len(data)}\r\n\r\n"
        )
        self.writer.write(lines.encode() + data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        return await self.reader.readexactly(int(length[1]))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def get(self, path: str) -> Any:
        self.send(path)
        return orjson.loads(await self.body(await self.head()))

    async def ask(self, path: str, body: dict[str, Any] | bytes) -> tuple[int, Any]:
        self.send(path, body)
        head = await self.head()
        return int(head.split()[1]), orjson.loads(await self.body(head))

    async def stream(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[bytes]:
        self.send(path, body)
        assert await self.head() == STREAM_HEAD
        return [chunk async for chunk in self.chunks()]


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def events(chunks: list[bytes]) -> list[Any]:
    lines = [line for chunk in chunks for line in chunk.split(b"\n\n") if line]
    assert lines.pop() == b"data: [DONE]"
    return [orjson.loads(line.removeprefix(b"data: ")) for line in lines]


async def said(start: Start, body: dict[str, Any], **settings: Any) -> list[bytes]:
    _, url = await start(Settings(**settings))
    async with client(url) as c:
        return await c.stream(body)


async def test_health_is_llama_servers_to_the_byte(start: Start) -> None:
    _, url = await start(Settings())
    async with client(url) as c:
        for path in ("/health", "/v1/health"):
            c.send(path)
            assert await c.head() + await c.reader.readexactly(15) == HEAD % 15 + b'{"status":"ok"}'


async def test_a_chat_has_llama_servers_keys_in_its_order(start: Start) -> None:
    _, url = await start(Settings(tokens=3))
    async with client(url) as c:
        c.send("/v1/chat/completions", CHAT)
        head = await c.head()
        body = await c.body(head)
    reply = orjson.loads(body)
    assert head == HEAD % len(body)
    assert list(reply) == [
        "choices", "created", "model", "system_fingerprint", "object", "usage", "id", "timings",
    ]  # fmt: skip
    message = {"role": "assistant", "content": "w0 w1 w2"}
    assert reply["choices"] == [{"finish_reason": "stop", "index": 0, "message": message}]
    assert list(reply["choices"][0]) == ["finish_reason", "index", "message"]
    assert re.fullmatch(r"chatcmpl-\w{32}", reply["id"])
    assert abs(reply["created"] - time.time()) < 60
    assert list(reply["timings"]) == TIMINGS
    # The end-of-sequence token counts.
    assert reply["usage"] == {
        "completion_tokens": 4,
        "prompt_tokens": 16,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_a_stream_has_llama_servers_chunks(start: Start) -> None:
    chunks = await said(start, STREAM | {"max_tokens": 2}, tokens=8)
    told = events(chunks)
    tail = ["created", "id", "model", "system_fingerprint", "object"]
    assert [chunk.count(b"data: ") for chunk in chunks] == [2, 1, 1, 1]
    assert [event["choices"][0] for event in told] == [
        {"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": None}},
        {"finish_reason": None, "index": 0, "delta": {"content": "w0"}},
        {"finish_reason": None, "index": 0, "delta": {"content": " w1"}},
        {"finish_reason": "length", "index": 0, "delta": {}},
    ]
    assert [list(event) for event in told[:3]] == [["choices", *tail]] * 3
    assert list(told[3]) == ["choices", *tail, "timings"]
    assert len({event["id"] for event in told}) == 1
    assert chunks[1].startswith(b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{')


async def test_usage_comes_in_an_event_of_its_own_and_takes_the_timings(start: Start) -> None:
    body = STREAM | {"stream_options": {"include_usage": True}, "max_tokens": 2}
    chunks = await said(start, body)
    finish, usage = events(chunks)[-2:]
    assert "timings" not in finish
    assert list(usage)[-2:] == ["usage", "timings"]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert chunks[-2].count(b"data: ") == 2


async def test_a_text_stream_carries_usage_on_its_last_event(start: Start) -> None:
    _, url = await start(Settings(tokens=2))
    async with client(url) as c:
        chunks = await c.stream({"prompt": "once", "stream": True}, "/v1/completions")
    told = events(chunks)
    assert [event["choices"][0]["text"] for event in told] == ["w0", " w1", ""]
    keys = ["choices", "created", "model", "system_fingerprint", "object"]
    assert list(told[0]) == [*keys, "id"]
    assert list(told[2]) == [*keys, "usage", "id", "timings"]


async def test_a_burst_is_the_same_bytes(start: Start) -> None:
    body = STREAM | {"max_tokens": 5}
    paced, burst = [await said(start, body, burst=burst) for burst in (False, True)]
    mask = re.compile(rb'"created":\d+,"id":"chatcmpl-\w+"')
    assert [mask.sub(b"", c) for c in paced] == [mask.sub(b"", c) for c in burst]


@pytest.mark.parametrize(
    ("asked", "tokens", "finish"),
    [
        ({}, 4, "stop"),
        ({"max_tokens": None}, 4, "stop"),
        ({"max_tokens": -1}, 4, "stop"),
        ({"max_tokens": 3}, 3, "length"),
        ({"max_completion_tokens": 1}, 1, "length"),
        ({"max_tokens": 400}, 4, "length"),
    ],
)
async def test_a_limit_holds_up_to_the_cap(
    start: Start, asked: dict[str, Any], tokens: int, finish: str
) -> None:
    _, url = await start(Settings(tokens=4))
    async with client(url) as c:
        _, reply = await c.ask("/v1/chat/completions", CHAT | asked)
    choice = reply["choices"][0]
    assert len(choice["message"]["content"].split()) == tokens
    assert choice["finish_reason"] == finish


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", {"a": 1}, "'messages' is required"),
        ("/v1/chat/completions", {"messages": "x"}, "Expected 'messages' to be an array"),
        ("/v1/chat/completions", b'{"messages', "[json.exception.parse_error.101] "),
        ("/v1/completions", {"a": 1}, "[json.exception.out_of_range.403] key 'prompt' not found"),
        (
            "/v1/chat/completions",
            CHAT | {"max_tokens": -5},
            "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got -5",
        ),
    ],
)
async def test_bad_input_is_refused_in_llama_servers_words(
    start: Start, path: str, body: dict[str, Any] | bytes, message: str
) -> None:
    _, url = await start(Settings())
    async with client(url) as c:
        status, told = await c.ask(path, body)
    assert status == 400
    assert list(told["error"]) == ["code", "message", "type"]
    assert told["error"]["message"].startswith(message)


async def test_unknown_paths_and_wrong_methods_are_not_found(start: Start) -> None:
    _, url = await start(Settings())
    expected = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
    async with client(url) as c:
        assert await c.get("/v1/chat/completions") == expected
        assert await c.ask("/v1/models", CHAT) == (404, expected)


async def test_the_pages_tell_of_slots_and_model(start: Start) -> None:
    _, url = await start(Settings(slots=2, model="tiny"))
    async with client(url) as c:
        props, models, slots = [await c.get(p) for p in ("/props", "/v1/models", "/slots")]
    assert (props["total_slots"], props["model_alias"]) == (2, "tiny")
    assert [model["id"] for model in models["data"]] == ["tiny"]
    idle = {"n_ctx": 2048, "speculative": False, "is_processing": False}
    assert slots == [{"id": 0, **idle}, {"id": 1, **idle}]


async def busy(c: Client) -> list[bool]:
    return [slot["is_processing"] for slot in await c.get("/slots")]


def noted(mock: Server, *events: str) -> list[tuple[str, str | None]]:
    return [(e[2], e[4]) for e in mock.engine.events if e[2] in events]


async def test_a_dropped_stream_frees_its_slot_for_the_next_in_line(start: Start) -> None:
    mock, url = await start(Settings(slots=1, token_ms=FOR_EVER))
    async with client(url) as watch, client(url) as second, client(url) as third:
        async with client(url) as first:
            first.send("/v1/chat/completions", STREAM | {"user": "first"})
            assert await first.head() == STREAM_HEAD
            assert await busy(watch) == [True]
            second.send("/v1/chat/completions", STREAM | {"user": "second"})
            await asyncio.wait_for(deferred(watch, 1), 5)
            third.send("/v1/chat/completions", STREAM | {"user": "third"})
            await asyncio.wait_for(deferred(watch, 2), 5)
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
                await asyncio.wait_for(deferred(watch, 1), 5)
            third.send("/v1/chat/completions", STREAM | {"user": "third"})
            await asyncio.wait_for(deferred(watch, 2), 5)
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
    argv = [sys.executable, "-m", "tests.bench.mock_llama", "--slots", "3", "--model", "named"]
    with procs.running("mock", argv, tmp_path / "log", announces=True) as mock:
        told = orjson.loads(mock.line(20))
        props = orjson.loads(procs.get(told["url"] + "/props"))
    assert told["pid"] == mock.pid
    assert (props["total_slots"], props["model_alias"]) == (3, "named")
    assert mock.popen.returncode == 0
    assert mock.log.read_text() == ""

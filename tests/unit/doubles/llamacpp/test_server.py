"""The mock's answers against what llama-server's bytes look like (b11549, read off the socket)."""

from __future__ import annotations

import re
import time
from typing import Any

import orjson
import pytest

from tests.doubles.llamacpp.script import fault
from tests.doubles.llamacpp.slots import Settings
from tests.unit.doubles.llamacpp.conftest import Start
from tests.unit.doubles.llamacpp.raw_client import CHAT, STREAM, client

HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
    b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Keep-Alive: timeout=5, max=100\r\n\r\n"
)
TIMINGS = [
    "cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n",
    "predicted_ms", "predicted_per_token_ms", "predicted_per_second",
]  # fmt: skip


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


async def test_a_parrot_says_what_it_was_told(start: Start) -> None:
    _, url = await start(Settings(parrot=True))
    async with client(url) as c:
        told = {"messages": [{"role": "user", "content": "one two three"}]}
        _, whole = await c.ask("/v1/chat/completions", told)
        _, cut = await c.ask("/v1/chat/completions", told | {"max_tokens": 2})
        _, nothing = await c.ask("/v1/chat/completions", {"messages": []})
    said = [reply["choices"][0]["message"]["content"] for reply in (whole, cut, nothing)]
    assert said == ["one two three", "one two", "hi"]


async def test_a_test_may_have_it_say_anything(start: Start) -> None:
    mock, url = await start(Settings(slots=1, token_ms=3_600_000.0))
    async with client(url) as c:
        mock.documents["/v1/chat/completions"] = fault(503, "Loading model", "unavailable_error")
        for body in (CHAT, STREAM):
            status, said = await c.ask("/v1/chat/completions", body)
            assert (status, said["error"]["message"]) == (503, "Loading model")
        mock.streams["/v1/chat/completions"] = [b"data: 1\n\n", b"data: 2\n\n"]
        assert await c.stream(STREAM) == [b"data: 1\n\n", b"data: 2\n\n"]
        mock.props["modalities"]["vision"] = True
        assert (await c.get("/props"))["modalities"]["vision"]
        mock.slots = {"error": "x"}
        assert await c.get("/slots") == {"error": "x"}
    assert mock.asked("/v1/chat/completions") == [CHAT, STREAM, STREAM]
    assert mock.asked("/props") == [None]


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

"""What is large holds no loop for long: beside it, others are served as before."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from schemas.api import sse
from tests.doubles.llamacpp.server import LlamaCpp
from tests.fabric import Fabric, Process, ask, first_to_log
from tests.unit.ingress.request.web_server import png

HELD = 0.04
"""Seconds of the loop's own CPU time."""
TRIES = 4
"""The machine may be busy with other things, whose caches cost CPU time, too."""
MIB = 2**20
PATIENT = {"ingress.silence": 60.0, "jobs.ack_wait": 60.0}
"""Millions of words hold an echo engine, and so its worker is silent for a while."""
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


def chat(content: Any, **more: Any) -> bytes:
    return orjson.dumps({**ask("hi"), "messages": [{"role": "user", "content": content}], **more})


def picture() -> bytes:
    text = base64.b64encode(png() + bytes(20 * MIB)).decode()
    return chat([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}])


def called() -> bytes:
    arguments = orjson.dumps({"rows": [[0.5, "x"]] * 10**6}).decode()
    function = {"name": "f", "arguments": arguments}
    call = {"id": "c", "type": "function", "function": function}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "y"}
    return orjson.dumps({**ask("hi"), "messages": [ask("hi")["messages"][0], said, result]})


BODIES: dict[str, Callable[[], bytes]] = {
    "a text": lambda: chat("word " * (6 * MIB)),
    "a text with a letter of another kind at its end": lambda: chat("a" * (4 * MIB - 9) + "\u2603"),
    "escapes": lambda: chat("\n" * (15 * MIB)),
    "a picture": picture,
    "messages": lambda: orjson.dumps(
        {**ask("hi"), "messages": [{"role": "user", "content": "x" * 1900}] * 16_000}
    ),
    "calls": called,
    "fields": lambda: chat("hi", **{f"k{at}": at for at in range(MIB)}),
    "numbers": lambda: chat("hi", numbers=[random.random() for _ in range(MIB)]),
    "lists": lambda: chat("hi", lists=[[]] * (10 * MIB)),
    "nulls": lambda: chat("hi" * (8 * MIB), stop=None, tools=None),
    "no JSON": lambda: chat("a" * (30 * MIB))[:-3],
}


async def beside(fabric: Fabric, watched: Process, work: Callable[[], Any]) -> float:
    """The longest hold of the loop of `watched` while somebody else works and another asks."""
    assert watched.held is not None
    await fabric.post(ask("warm"))
    watched.held.forget()
    task = asyncio.ensure_future(work())
    while not task.done():
        status, _, _ = await fabric.post(ask("beside"))
        assert status == 200
    await task
    return watched.held.longest


async def least(fabric: Fabric, watched: Process, work: Callable[[], Any]) -> float:
    found = 1.0
    for _ in range(TRIES):
        found = min(found, await beside(fabric, watched, work))
        if found <= HELD:
            break
    return found


async def sent(fabric: Fabric, path: str, body: bytes) -> tuple[int, bytes]:
    """The status of its answer, and its beginning."""
    heads = {**fabric.headers, "content-type": "application/json"}
    data = io.BytesIO(body)
    async with fabric.session.post(fabric.url + path, data=data, headers=heads) as answer:
        return answer.status, (await answer.read())[:1000]


async def test_no_body_holds_an_ingress(fabric: Fabric) -> None:
    fabric.watched = True
    ingress = await fabric.ingress(PATIENT)
    await fabric.worker("echo://?model=echo&slots=4", PATIENT)
    await fabric.served("echo")
    held = {}
    for name, make in BODIES.items():
        body = make()

        async def send(body: bytes = body) -> None:
            status, said = await sent(fabric, CHAT, body)
            assert status in (200, 400), said

        held[name] = await least(fabric, ingress, send)
    assert {name: seconds for name, seconds in held.items() if seconds > HELD} == {}


async def test_no_stream_that_broke_holds_an_ingress(fabric: Fabric) -> None:
    """Its request is large, and nobody reads it once more to know how to go on."""
    fabric.watched = True
    ingress = await fabric.ingress()
    await fabric.worker("echo://?model=echo&slots=4")
    words = " ".join(f"w{number}" for number in range(20))
    said = [{"role": "system", "content": "x" * (30 * MIB)}, {"role": "user", "content": words}]
    body = {"model": "large", "messages": said, "stream": True, "echo": {"token_ms": 50}}
    text = orjson.dumps(body)

    async def broken() -> None:
        workers = [await fabric.worker("echo://?model=large&slots=1") for _ in range(2)]
        await fabric.served("echo", "large")
        heads = {**fabric.headers, "content-type": "application/json"}
        url = fabric.url + CHAT
        async with fabric.session.post(url, data=io.BytesIO(text), headers=heads) as answer:
            got = await answer.content.readany()
            victim = await first_to_log(workers, "runner.began")
            await workers[victim].kill()
            got += await answer.read()
        deltas = [each["choices"][0]["delta"] for each in sse.objects(got) if each["choices"]]
        assert "".join(each.get("content") or "" for each in deltas) == words
        await workers[1 - victim].kill()
        await fabric.served("echo")

    assert await least(fabric, ingress, broken) <= HELD


ENGINES = """
[[engines]]
name = "llama"
kind = "llamacpp"
url = "{llama}"
models = ["llama"]
[[engines]]
name = "other"
kind = "openai"
url = "{other}"
models = ["other"]
[[engines]]
name = "echo"
kind = "echo"
url = "echo://?model=echo&slots=4"
"""


def answers() -> dict[str, bytes]:
    """Large answers of an engine, by path."""
    vector = [random.random() for _ in range(2**19)]
    thought = {"type": "thinking", "thinking": "x" * (12 * MIB)}
    said = {"type": "output_text", "text": "y" * (12 * MIB), "annotations": []}
    message = {"type": "message", "role": "assistant", "id": "m", "content": [said]}
    one = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    told = {"role": "assistant", "content": "z"}
    choice = {"index": 0, "message": told, "logprobs": {"content": [one] * 50_000}}
    found: dict[str, Any] = {
        EMBEDDINGS: {"data": [{"embedding": vector, "index": 0}]},
        "/v1/messages": {"id": "x", "content": [thought, {"type": "text", "text": "z"}]},
        "/v1/responses": {"id": "r", "output": [message]},
        CHAT: {"id": "c", "choices": [choice]},
    }
    return {path: orjson.dumps({"model": "own", **body}) for path, body in found.items()}


@asynccontextmanager
async def engine(said: dict[str, bytes]) -> AsyncIterator[str]:
    """An engine of OpenAI's kind that has these answers."""

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/v1/models":
            return web.json_response({"data": [{"id": "own"}]})
        if request.content_length is None or request.content_length < 1000:  # it is tried
            return web.json_response({})
        await request.read()
        return web.Response(body=io.BytesIO(said[request.path]), content_type="application/json")

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def asked(path: str, model: str, text: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    match path:
        case "/v1/embeddings":
            body: dict[str, Any] = {"input": text}
        case "/v1/responses":
            body = {"input": text}
        case "/v1/messages":
            body = {"max_tokens": 9, "messages": messages}
        case _:
            tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            body = {"messages": messages, "tools": [tool], "parallel_tool_calls": False}
    return orjson.dumps({"model": model, **body})


KEPT: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
    "a chat": (CHAT, "echo", lambda: {**ask("x" * (30 * MIB)), "temperature": 0}),
    "a text": (EMBEDDINGS, "echo", lambda: {"input": "x" * (16 * MIB)}),
    "texts": (
        EMBEDDINGS,
        "echo",
        lambda: {"input": [f"{at} " + "x" * 7000 for at in range(2048)]},
    ),
    "ids": (EMBEDDINGS, "echo", lambda: {"input": list(range(10**6))}),
    "a long number": (EMBEDDINGS, "echo", lambda: {"input": "x" * (16 * MIB), "seed": 10**17}),
    "other fields": (EMBEDDINGS, "echo", lambda: {"input": "x", "user": "x" * (16 * MIB)}),
    "a vector": (EMBEDDINGS, "other", lambda: {"input": "x" * 2000}),
}
"""Requests with answers that are kept: path, model and body."""


async def test_no_kept_answer_holds_an_ingress(fabric: Fabric) -> None:
    """Neither by its name, nor when it is taken apart, kept and put together."""
    fabric.watched = True
    ingress = await fabric.ingress({"cache.use": "on", "cache.largest": 2**26, **PATIENT})
    async with LlamaCpp() as llama, engine(answers()) as other:
        await fabric.crew(ENGINES.format(llama=llama.url, other=other), PATIENT)
        await fabric.served("echo", "llama", "other")
        held = {}
        for name, (path, model, make) in KEPT.items():
            body = orjson.dumps({**make(), "model": model})

            async def send(path: str = path, body: bytes = body) -> None:
                for _ in range(2):
                    status, said = await sent(fabric, path, body)
                    assert status == 200, said

            held[name] = await least(fabric, ingress, send)
        assert {name: seconds for name, seconds in held.items() if seconds > HELD} == {}


async def test_no_request_and_no_answer_holds_a_worker(fabric: Fabric) -> None:
    fabric.watched = True
    await fabric.ingress(PATIENT)
    async with LlamaCpp() as llama, engine(answers()) as other:
        worker = await fabric.crew(ENGINES.format(llama=llama.url, other=other), PATIENT)
        await fabric.served("echo", "llama", "other")
        held = {}
        for model, size in (("llama", 16 * MIB), ("other", 16 * MIB), ("other", 2000)):
            for path in answers():
                if model == "llama" and path == EMBEDDINGS:
                    continue
                body = asked(path, model, "x" * size)

                async def send(path: str = path, body: bytes = body, model: str = model) -> None:
                    status, said = await sent(fabric, path, body)
                    its_context = model == "llama" and status == 400
                    assert status == 200 or its_context, said

                held[model, path, size] = await least(fabric, worker, send)
    assert {what: seconds for what, seconds in held.items() if seconds > HELD} == {}

"""Bad input and bad times, as clients meet them: each request ends in exactly one clear answer."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.fabric import KEY, Fabric, ask

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


async def _send(fabric: Fabric, body: bytes, **headers: str) -> tuple[int, dict[str, str]]:
    """(status, error) of a raw body."""
    heads = {**fabric.headers, **JSON, **headers}
    async with fabric.session.post(
        fabric.url + CHAT, data=io.BytesIO(body), headers=heads
    ) as answer:
        found = await answer.json()
        assert answer.headers["x-request-id"]
        return answer.status, found["error"]


async def test_bad_requests_are_refused_with_a_reason(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    message = {"role": "user", "content": "hi"}
    cases: list[tuple[object, int, str, str | None]] = [
        (b"{", 400, "invalid_request", None),
        (b"[]", 400, "invalid_request", "body"),
        (b'{"model": "echo"}', 400, "invalid_request", "messages"),
        ({"model": "echo", "messages": "hi"}, 400, "invalid_request", "messages"),
        ({"model": "echo", "messages": []}, 400, "invalid_request", "messages"),
        ({"model": 7, "messages": [message]}, 400, "invalid_request", "model"),
        (
            {"model": "echo", "messages": [message], "stream": "yes"},
            400,
            "invalid_request",
            "stream",
        ),
        ({"model": "echo", "messages": [message], "n": 0}, 400, "invalid_request", "n"),
        (
            {"model": "echo", "messages": [{"role": "asistant", "content": "hi"}]},
            400,
            "invalid_request",
            "messages[0].role",
        ),
        ({"model": "nobody", "messages": [message]}, 404, "model_not_found", "model"),
    ]
    for body, status, code, param in cases:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        got, error = await _send(fabric, raw)
        assert (got, error["code"], error["param"]) == (status, code, param), (body, error)
        assert error["type"]
        assert error["message"]
    _, error = await _send(fabric, json.dumps({"model": "nobody", "messages": [message]}).encode())
    assert "echo" in error["message"], "the known names help"


async def test_keys(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    body = json.dumps(ask("hi")).encode()
    for header in ("", "Bearer", "Bearer wrong", "Basic abc", f"Bearer {KEY}x"):
        status, error = await _send(fabric, body, Authorization=header)
        assert (status, error["code"]) == (401, "invalid_api_key"), header
    async with fabric.session.get(fabric.url + "/v1/models") as answer:
        assert answer.status == 401
    async with fabric.session.get(fabric.url + "/models", headers={"x-api-key": KEY}) as answer:
        assert [model["id"] for model in (await answer.json())["data"]] == ["echo"]


async def test_paths_with_and_without_the_version(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker("echo://?model=org/some%20model:7b")
    await fabric.served("org/some model:7b")
    for path in ("/v1/models/org/some%20model:7b", "/models/org/some%20model:7b"):
        async with fabric.session.get(fabric.url + path, headers=fabric.headers) as answer:
            assert (answer.status, (await answer.json())["id"]) == (200, "org/some model:7b")
    for path, status, code in (
        ("/v1/nothing", 404, "not_found"),
        ("/v1/models/none", 404, "model_not_found"),
        (CHAT, 405, "method_not_allowed"),
    ):
        async with fabric.session.get(fabric.url + path, headers=fabric.headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    async with fabric.session.post(
        fabric.url + "/chat/completions",
        json={**ask("hello"), "model": "org/some model:7b"},
        headers=fabric.headers,
    ) as answer:
        assert answer.status == 200


async def test_absent_model_takes_the_default_route(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    body = ask("hello")
    del body["model"]
    status, answer, _ = await fabric.post(body)
    assert (status, answer["model"]) == (200, "echo")


async def test_request_id_is_kept(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    _, _, headers = await fabric.post(ask("hi"), **{"x-request-id": "mine-1"})
    assert headers["x-request-id"] == "mine-1"
    line = await ingress.logged("request", id="mine-1")
    assert (line["key"], line["model"], line["status"]) == ("test", "echo", 200)
    assert not any(KEY in json.dumps(row) or '"hi"' in json.dumps(row) for row in ingress.lines)


async def test_body_limits(fabric: Fabric) -> None:
    await fabric.ingress({"ingress.max_body": 2 * 2**20})
    await fabric.worker()
    await fabric.served("echo")
    status, error = await _send(fabric, b" " * (2 * 2**20 + 1))
    assert (status, error["code"]) == (413, "request_too_large")

    async def endless() -> object:
        for _ in range(64):
            yield b" " * 2**16

    async with fabric.session.post(
        fabric.url + CHAT, data=endless(), headers={**fabric.headers, **JSON}
    ) as answer:
        assert answer.status == 413
    async with fabric.session.get(
        fabric.url + "/v1/models", headers={**fabric.headers, "x-padding": "x" * 70_000}
    ) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize("size", [300_000, 8_000_000])
async def test_large_bodies_travel_by_reference(fabric: Fabric, size: int) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    body = io.BytesIO(json.dumps(ask("hello again", padding="x" * size)).encode())
    async with fabric.session.post(
        fabric.url + CHAT, data=body, headers={**fabric.headers, **JSON}
    ) as answer:
        found = await answer.json()
    assert answer.status == 200, found
    assert found["choices"][0]["message"]["content"] == "hello again"


async def test_no_worker_for_a_known_model_is_503_after_the_claim_deadline(fabric: Fabric) -> None:
    await fabric.ingress({"routes.claim": 0.5, "ingress.absence": 0})
    worker = await fabric.worker()
    await fabric.served("echo")
    await worker.stop()
    await fabric.served()
    for stream in (False, True):
        status, body, headers = await fabric.post(ask("anybody?", stream=stream))
        assert (status, body["error"]["code"]) == (503, "no_worker")
        assert int(headers["retry-after"]) >= 1
    await fabric.idle()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_was_lost_is_waited_for(fabric: Fabric, stream: bool) -> None:
    await fabric.ingress({"routes.claim": 0.1, "ingress.keepalive": 0.1})
    worker = await fabric.worker()
    await fabric.served("echo")
    await worker.kill()
    await fabric.served()
    body = ask("back again")
    asked = asyncio.create_task(fabric.stream(body) if stream else fabric.post(body))
    await fabric.jobs(1)
    await fabric.worker()
    answer = await asked
    text = answer[1] if stream else answer[1]["choices"][0]["message"]["content"]
    assert (answer[0], text) == (200, "back again")


async def test_a_known_model_is_remembered_by_a_new_ingress(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await worker.stop()
    second = await fabric.ingress({"routes.claim": 0.2, "ingress.absence": 0})
    status, body, _ = await fabric.post(ask("anybody?"), url=second.url)
    assert (status, body["error"]["code"]) == (503, "no_worker")


async def test_full_queue_is_429_with_a_true_retry_after(fabric: Fabric) -> None:
    await fabric.ingress({"jobs.queue_depth": 5})
    await fabric.worker("echo://?model=echo&slots=1&first_ms=300")
    await fabric.served("echo")
    for _ in range(2):
        await fabric.post(ask("sets the pace"))
    answers = await asyncio.gather(*(fabric.post(ask(f"r{i}")) for i in range(12)))
    refused = [(body, headers) for status, body, headers in answers if status == 429]
    assert len(refused) == 7
    assert sorted({status for status, _, _ in answers}) == [200, 429]
    for body, headers in refused:
        assert body["error"]["code"] == "queue_full"
        assert 1 <= int(headers["retry-after"]) <= 4, "five jobs of 0.3 s"


async def test_a_client_that_does_not_read_stalls_nobody(fabric: Fabric) -> None:
    """Not even the one slot of the only worker: the ingress keeps the answer for the client."""
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    words = " ".join(f"w{i}" for i in range(8000))
    body = json.dumps(ask(words, stream=True)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    loop, where = asyncio.get_running_loop(), urlsplit(ingress.url)
    with socket.socket() as link:
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(link, (where.hostname, where.port))
        await loop.sock_sendall(link, head.encode() + body)
        await worker.logged("runner.ended", outcome="ok")
        for number in range(5):
            status, said, _ = await fabric.post(ask(f"quick {number}"))
            assert (status, said["choices"][0]["message"]["content"]) == (200, f"quick {number}")
        raw = b""
        while piece := await loop.sock_recv(link, 2**16):
            raw += piece
    assert raw.count(b'"content":" w') == 7999
    assert b"data: [DONE]" in raw


async def test_broker_away_is_503_long_before_a_deadline_and_mends_itself(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    await asyncio.to_thread(fabric.broker.kill)
    await ingress.logged("bus.disconnected")
    async with fabric.session.get(fabric.url + "/readyz") as answer:
        assert answer.status == 503
    began = time.monotonic()
    status, body, headers = await fabric.post(ask("anybody?"))
    assert (status, body["error"]["code"]) == (503, "broker_unavailable")
    assert headers["retry-after"]
    assert time.monotonic() - began < 30, "it takes 2 s on an idle machine"
    await asyncio.to_thread(fabric.broker.restart)
    await ingress.logged("bus.reconnected")
    assert (await fabric.post(ask("back")))[0] == 200


async def test_total_deadline_is_504_and_frees_the_slot(fabric: Fabric) -> None:
    await fabric.ingress({"routes.total": 0.5})
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    status, body, _ = await fabric.post(ask("too slow", echo={"first_ms": 60_000}))
    assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
    await worker.logged("runner.ended", outcome="cancelled")
    await fabric.idle()


async def test_engine_away_stops_the_pull_and_the_card_says_so(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    status, _, _ = await fabric.post(ask("down", echo={"fault": "503"}))
    assert status == 502
    line = await worker.logged("engine.failed")
    assert "503" in line["reason"]
    await worker.logged("engine.ready", skip=1)
    assert (await fabric.post(ask("up again")))[0] == 200

"""Ollama's API over real processes and a real broker: its streams live and end as others do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.fabric import Fabric, ask
from tests.gate import SHUT

CHAT = "/api/chat"


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


async def test_a_line_is_kept_alive_while_its_request_waits(fabric: Fabric) -> None:
    await fabric.ingress({"ingress.keepalive": 0.2})
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    running = asyncio.create_task(fabric.post(ask("holds the slot", echo={"first_ms": SHUT})))
    await worker.logged("runner.began")
    body, url = asked("it waits"), fabric.url + CHAT
    async with fabric.session.post(url, json=body, headers=fabric.headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        assert await answer.content.readexactly(1) == b" "
        worker.open_gate()
        found = (await answer.read()).splitlines()
    assert "".join(json.loads(line)["message"]["content"] for line in found) == "it waits"
    assert (await running)[0] == 200


async def test_a_stream_whose_worker_dies_ends_with_an_error(fabric: Fabric) -> None:
    await fabric.ingress({"ingress.absence": 0})
    worker = await fabric.worker("echo://?model=echo&token_ms=300")
    await fabric.served("echo")
    body, url = asked("one" + " more" * 1000), fabric.url + CHAT
    async with fabric.session.post(url, json=body, headers=fabric.headers) as got:
        first = json.loads(await got.content.readline())
        await worker.kill()
        last = json.loads((await got.content.read()).splitlines()[-1])
    assert (first["message"]["content"], first["done"]) == ("one", False)
    assert (last["code"], "done" in last) == ("stream_interrupted", False)


async def test_who_leaves_frees_the_slot(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1&token_ms=20")
    await fabric.served("echo")
    body, url = asked("word " * 5000), fabric.url + CHAT
    async with fabric.session.post(url, json=body, headers=fabric.headers) as answer:
        await answer.content.readline()
    assert (await ingress.logged("request"))["status"] == 499
    await worker.logged("runner.ended", outcome="cancelled")

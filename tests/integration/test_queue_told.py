"""What clients in a queue are told: real broker, real processes, echo engine."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deploy.survey import Surveyor, connected
from schemas.settings import Nats
from tests.fabric import Fabric, ask

QUEUED = re.compile(rb": queued position=(\d+)(?: eta=(\d+)s)?")
WAIT = b": x-headrace-queue-wait "


@dataclass
class Told:
    """What one stream was told: (seconds since it began, position, eta) for each comment. `waited`:
    seconds that it was in the queue."""

    comments: list[tuple[float, int, int | None]] = field(default_factory=list)
    waited: float = 0.0
    lines: list[bytes] = field(default_factory=list)


async def _stream(fabric: Fabric, ms: float, url: str = "", **more: Any) -> Told:
    told, began = Told(), time.monotonic()
    body = ask("a", stream=True, echo={"first_ms": ms}, **more)
    async with fabric.session.post(
        (url or fabric.url) + "/v1/chat/completions", json=body, headers=fabric.headers
    ) as answer:
        assert answer.status == 200
        async for line in answer.content:
            told.lines.append(line)
            if found := QUEUED.match(line):
                eta = int(found[2]) if found[2] else None
                told.comments.append((time.monotonic() - began, int(found[1]), eta))
            elif line.startswith(WAIT):
                told.waited = float(line.removeprefix(WAIT))
    told.waited = told.waited or float(answer.headers.get("x-headrace-queue-wait", 0))
    assert told.lines[-2:] == [b"data: [DONE]\n", b"\n"]
    return told


async def test_a_stream_in_the_queue_is_told_its_place_until_it_is_served(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    running = asyncio.create_task(fabric.post(ask("holds the slot", echo={"first_ms": 2600})))
    await worker.logged("runner.began")
    first = asyncio.create_task(_stream(fabric, 1500))
    await fabric.jobs(2)
    second = asyncio.create_task(_stream(fabric, 0))
    told = await first
    assert [position for _, position, _ in told.comments] == [1] * len(told.comments)
    assert 1.0 <= told.comments[0][0] < 2.6
    assert b": x-headrace-served-by" in b"".join(told.lines)
    assert 2 < told.waited < 60
    told = await second
    positions = [position for _, position, _ in told.comments]
    assert positions == sorted(positions, reverse=True)
    assert set(positions) == {1, 2}
    assert (await running)[0] == 200


async def test_who_is_not_streamed_is_told_with_the_answer(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker(slots=1)
    await fabric.served("echo")
    alone = asyncio.create_task(fabric.post(ask("alone")))
    await alone
    held = ask("holds the slot for some time", stream=True, echo={"token_ms": 1000})
    # Its head comes once it has the slot: from then on it is not in the queue.
    async with fabric.session.post(
        fabric.url + "/v1/chat/completions", json=held, headers=fabric.headers
    ) as answer:
        first = asyncio.create_task(fabric.post(ask("first")))
        await fabric.jobs(2)
        second = asyncio.create_task(fabric.post(ask("second")))
        for asked, position in ((alone, 1), (first, 1), (second, 2)):
            status, _, headers = await asked
            assert status == 200
            assert headers["x-headrace-queue-position"] == str(position)
            waited = float(headers["x-headrace-queue-wait"])
            assert waited < 1 if asked is alone else waited > 1
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")


READER = "sk-reader-0123456789abcdef"
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\naccount = "{name}"\nsecret = "{secret}"\nscopes = {scopes}\n'
    for name, secret, scopes in (
        ("reader", READER, '["inference", "usage:read"]'),
        ("other", "sk-other-0123456789abcdef", '["inference"]'),
    )
)


async def test_the_queue_is_told_to_who_may_read_it_and_to_status(fabric: Fabric) -> None:
    """Two ingresses and three accounts, with jobs of both lanes."""
    first, second = [(await fabric.ingress(tables=KEYS)).url for _ in range(2)]
    worker = await fabric.worker(slots=1)
    for url in (first, second):
        await fabric.served("echo", url=url)
    tasks = [asyncio.create_task(fabric.post(ask("runs", echo={"first_ms": 60_000})))]
    await worker.logged("runner.began")
    mine = {"Authorization": f"Bearer {READER}"}
    other = {"Authorization": "Bearer sk-other-0123456789abcdef"}
    for depth, (url, key, tier) in enumerate(
        [(first, mine, None), (second, other, None), (first, other, "flex")], 2
    ):
        body = ask("waits", service_tier=tier)
        tasks.append(asyncio.create_task(fabric.post(body, url, **key)))
        await fabric.jobs(depth)
    async with asyncio.timeout(60):
        while not _placed(told := await _queue(fabric, first, mine)):
            await asyncio.sleep(0.05)
    assert (told["slots"], told["running"], told["waiting"]) == (1, 1, 3)
    assert {name: lane["waiting"] for name, lane in told["lanes"].items()} == {
        "interactive": 2,
        "batch": 1,
    }
    assert told["oldest_wait"] > 0
    assert told["own"]["waiting"] == 1
    assert told["own"]["requests"][0]["position"] in (1, 2)
    async with connected(await _admin(fabric), "test") as bus:
        surveyor = Surveyor(bus, "")
        await surveyor.gather()
        rows = (await surveyor.look()).waiting
    assert [(row.lane, row.account, row.waiting) for row in rows] == [
        ("i", "other", 1),
        ("i", "reader", 1),
        ("b", "other", 1),
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await fabric.idle()


async def _queue(fabric: Fabric, url: str, key: dict[str, str]) -> dict[str, Any]:
    async with fabric.session.get(url + "/v1/queue", headers=key) as answer:
        assert answer.status == 200
        (found,) = (await answer.json())["data"]
        told: dict[str, Any] = found
        return told


def _placed(told: dict[str, Any]) -> bool:
    return any(each["position"] for each in told["own"]["requests"])


async def _admin(fabric: Fabric) -> Nats:
    user, password = fabric.broker.users["admin"]
    return Nats.model_validate({"url": fabric.broker.url, "user": user, "password": password})


async def test_the_eta_is_about_right_while_the_load_is_the_same(fabric: Fabric) -> None:
    """Two ingresses, four slots, always the same number of requests in the queue."""
    urls = [(await fabric.ingress()).url for _ in range(2)]
    await fabric.worker("echo://?model=echo&slots=4")
    for url in urls:
        await fabric.served("echo", url=url)
    told: list[Told] = []
    end = time.monotonic() + 8

    async def client(number: int) -> None:
        await asyncio.sleep(number / 20)  # one after the other, as people come
        while time.monotonic() < end:
            told.append(await _stream(fabric, 300 + number % 7 * 50, urls[number % 2]))

    await asyncio.gather(*(client(number) for number in range(50)))
    wrong = [
        abs(at + eta - each.waited) / (each.waited - at)
        for each in told
        for at, _, eta in each.comments
        if eta is not None and each.waited - at > 0.5
    ]
    assert len(wrong) > 200
    assert median(wrong) <= 0.25, f"{median(wrong):.2f} of {len(wrong)} estimates"

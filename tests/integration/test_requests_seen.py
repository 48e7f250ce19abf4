"""What runs and what has ended, as people see it: two ingresses, a real broker, echo engines."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fabric import PATIENCE, Fabric, ask
from tests.gate import SHUT

ADMIN = "sk-admin-0123456789abcdef"
OTHER = "sk-other-0123456789abcdef"
BLIND = "sk-blind-0123456789abcdef"
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\naccount = "{name}"\nsecret = "{secret}"\nscopes = {scopes}\n'
    for name, secret, scopes in (
        ("boss", ADMIN, '["inference", "admin"]'),
        ("other", OTHER, '["inference", "usage:read"]'),
        ("blind", BLIND, '["inference"]'),
    )
)
TEXT = "of which nobody else is to know"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def _seen(fabric: Fabric, secret: str, url: str = "", **asked: str) -> dict[str, Any]:
    where = (url or fabric.url) + "/v1/requests"
    async with fabric.session.get(where, params=asked, headers=bearer(secret)) as answer:
        assert answer.status == 200, await answer.text()
        said: dict[str, Any] = await answer.json()
    assert TEXT not in str(said)
    return said


async def _until(
    states: list[str], fabric: Fabric, secret: str, url: str = "", **asked: str
) -> dict[str, Any]:
    """What is said once its rows are so: a claim or an end may be under way."""
    async with asyncio.timeout(PATIENCE):
        while True:
            said = await _seen(fabric, secret, url, **asked)
            if said["complete"] and [row["state"] for row in said["data"]] == states:
                return said


async def _cancel(fabric: Fabric, secret: str, id: str, url: str) -> tuple[int, dict[str, Any]]:
    where = f"{url}/v1/requests/{id}"
    async with fabric.session.delete(where, headers=bearer(secret)) as answer:
        return answer.status, await answer.json()


def _events(row: dict[str, Any]) -> list[str]:
    return [event["event"] for event in row["timeline"]]


async def test_what_runs_is_seen_at_each_ingress_and_ended_by_who_may(fabric: Fabric) -> None:
    first, second = [(await fabric.ingress(tables=KEYS)).url for _ in range(2)]
    worker = await fabric.worker(slots=1)
    for url in (first, second):
        await fabric.served("echo", url=url)
    ended = await fabric.post(ask(TEXT), first, **bearer(OTHER))
    assert ended[0] == 200
    held = ask(TEXT, echo={"first_ms": 60_000})
    running = asyncio.create_task(fabric.post(held, first, **bearer(ADMIN)))
    await worker.logged("runner.began", skip=1)
    waiting = asyncio.create_task(fabric.post(ask(TEXT), second, **bearer(OTHER)))
    await fabric.jobs(2)

    said = await _until(["queued", "running", "ended"], fabric, ADMIN, second)
    queued, runs, over = said["data"]
    assert [row["account"] for row in said["data"]] == ["other", "boss", "other"]
    assert _events(queued) == ["queued"]
    assert _events(runs) == ["queued", "claimed"]
    assert _events(over)[:2] == ["queued", "claimed"]
    assert _events(over)[-1] == "ended"
    assert over["status"] == 200
    assert over["completion_tokens"] > 0
    assert over["request"] == ended[2]["x-request-id"]
    assert over["took"] >= over["queued_for"] >= 0
    assert runs["timeline"][1]["by"] == f"node:{runs['node']}"

    mine = await _seen(fabric, OTHER, first)
    assert {row["account"] for row in mine["data"]} == {"other"}
    assert len(mine["data"]) == 2
    later = await _seen(fabric, ADMIN, first, after=said["after"])
    assert [row["state"] for row in later["data"]] == ["queued", "running"]

    status, refused = await _cancel(fabric, OTHER, runs["id"], second)
    assert (status, refused["error"]["code"]) == (404, "request_not_found")
    status, done = await _cancel(fabric, ADMIN, runs["id"], second)  # it runs at the first one
    assert (status, done["cancelled"]) == (200, True)
    status, answer, _ = await running
    assert (status, answer["error"]["code"]) == (499, "request_cancelled")
    assert (await waiting)[0] == 200  # it has the slot now
    said = await _until(["ended"] * 2, fabric, ADMIN, first, after=said["after"])
    assert {row.get("error") for row in said["data"]} == {None, "request_cancelled"}


async def test_an_ingress_that_ended_is_not_missed(fabric: Fabric) -> None:
    first, second = [await fabric.ingress(tables=KEYS) for _ in range(2)]
    await _seen(fabric, ADMIN, second.url)
    assert await second.stop() == 0
    assert (await _seen(fabric, ADMIN, first.url))["complete"]
    status, refused = await _cancel(fabric, ADMIN, "unknown", first.url)
    assert (status, refused["error"]["code"]) == (404, "request_not_found")


async def test_a_takeover_is_seen_in_the_timeline(fabric: Fabric) -> None:
    await fabric.ingress(tables=KEYS)
    doomed = await fabric.worker(slots=1)
    await fabric.served("echo")
    held = ask(TEXT, echo={"first_ms": SHUT})
    running = asyncio.create_task(fabric.post(held, **bearer(OTHER)))
    await _until(["running"], fabric, OTHER)
    other = await fabric.worker(slots=1)
    other.open_gate()
    await fabric.slots("echo", 2)
    await doomed.kill()
    assert (await running)[0] == 200
    (row,) = (await _until(["ended"], fabric, OTHER))["data"]
    found = [event for event in _events(row) if event != "first_token"]
    assert found == ["queued", "claimed", "lost", "claimed", "ended"]


async def test_who_may_not_read_is_told_so(fabric: Fabric) -> None:
    await fabric.ingress(tables=KEYS)
    for secret, asked, code in (
        (BLIND, {}, 403),
        (OTHER, {"account": "boss"}, 403),
        (ADMIN, {"limit": "0"}, 400),
        (ADMIN, {"limit": "x"}, 400),
        (ADMIN, {"after": "no cursor"}, 400),
    ):
        where = fabric.url + "/v1/requests"
        async with fabric.session.get(where, params=asked, headers=bearer(secret)) as answer:
            assert answer.status == code
            assert (await answer.json())["error"]["message"]


async def test_a_key_can_be_asked_what_it_may_do(fabric: Fabric) -> None:
    await fabric.ingress(tables=KEYS)
    async with fabric.session.get(fabric.url + "/v1/key", headers=bearer(OTHER)) as answer:
        said = await answer.json()
    assert (said["name"], said["account"]) == ("other", "other")
    assert said["scopes"] == ["inference", "usage:read"]
    assert "note" not in said
    assert OTHER not in str(said)

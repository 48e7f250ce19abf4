"""Usage as keys, admins and the command see it, with several real ingresses and workers."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import openai

from tests import forks
from tests.fabric import PATIENCE, Fabric, ask, read_until

ADMIN = "sk-admin-0123456789abcdef"
ROOT = f'[[keys]]\nname = "root"\nsecret = "{ADMIN}"\nadmin = true\n'
READS = ["inference", "models:read", "usage:read"]


async def call(fabric: Fabric, key: str, path: str, url: str = "", **more: Any) -> Any:
    verb, headers = "POST" if more else "GET", {"Authorization": f"Bearer {key}"}
    async with fabric.session.request(
        verb, (url or fabric.url) + path, headers=headers, **more
    ) as answer:
        return answer.status, await answer.json()


async def keys_made(fabric: Fabric) -> dict[str, str]:
    """Secrets of keys by their names: two of one account, one of another."""
    secrets = {}
    for name, account in (("a1", "acme"), ("a2", "acme"), ("b1", "umbrella")):
        said = {"name": name, "account": account, "scopes": READS}
        status, made = await call(fabric, ADMIN, "/admin/keys", json=said)
        assert status == 201
        secrets[name] = made["secret"]
    return secrets


async def asked(url: str, secret: str, times: int) -> None:
    async with openai.AsyncOpenAI(
        api_key=secret, base_url=f"{url}/v1", max_retries=0, timeout=PATIENCE
    ) as client:
        for _ in range(times):
            await client.chat.completions.create(**ask("one two three"))


def began(fabric: Fabric) -> int:
    return sum(process.count("runner.began") for process in fabric.processes)


async def left(fabric: Fabric, secret: str) -> None:
    """A client that leaves while a worker works for it."""
    body = ask("x", echo={"first_ms": 60_000})
    before = began(fabric)
    leaving = asyncio.create_task(call(fabric, secret, "/v1/chat/completions", json=body))
    await read_until(lambda: began(fabric) > before, fabric.processes)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)


async def told(fabric: Fabric, key: str, path: str, requests: int) -> Any:
    """The usage, once the ingresses have said so many requests, and that one failed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status, found = await call(fabric, key, path)
            assert status == 200
            if (found["total"]["requests"], found["total"]["failed"]) == (requests, 1):
                return found
            await asyncio.sleep(0.02)


async def test_what_was_used_is_told_to_whom_it_concerns(fabric: Fabric) -> None:
    ingresses = [await fabric.ingress(tables=ROOT) for _ in range(2)]
    for node in ("attic", "cellar"):
        await fabric.worker(config={"worker.node": node})
    secrets = await keys_made(fabric)
    await ingresses[1].logged("keys.changed", skip=2)
    for ingress in ingresses:
        await fabric.served("echo", url=ingress.url)
        for name, times in (("a1", 2), ("a2", 1), ("b1", 3)):
            await asked(ingress.url, secrets[name], times)
    await left(fabric, secrets["a2"])

    everyone = await told(fabric, ADMIN, "/admin/usage?by=node,account&since=1d", 12)
    assert {row["node"] for row in everyone["data"]} <= {"attic", "cellar"}
    own = await told(fabric, secrets["a1"], "/v1/usage?by=key", 6)
    rows = {row["key"]: row for row in own["data"]}
    assert {name: row["requests"] for name, row in rows.items()} == {"a1": 4, "a2": 2}
    assert (rows["a1"]["prompt"], rows["a1"]["completion"]) == (12, 12)
    assert (rows["a1"]["failed"], rows["a2"]["failed"]) == (0, 1)
    assert rows["a2"]["slot_seconds"] > 0
    status, refused = await call(fabric, secrets["a1"], "/admin/usage")
    assert (status, refused["error"]["code"]) == (403, "insufficient_scope")
    status, other = await call(fabric, secrets["b1"], "/v1/usage?by=account", ingresses[1].url)
    assert [(row["account"], row["requests"]) for row in other["data"]] == [("umbrella", 6)]
    await the_command_says_the_same(fabric)


async def the_command_says_the_same(fabric: Fabric) -> None:
    user, password = fabric.broker.users["admin"]
    url = fabric.broker.url.replace("nats://", f"nats://{user}:{password}@")
    by = ["--by", "account,month", "--account", "acme", "--csv"]
    code, out, err = await forks.run("usage", *by, "--nats", url)
    assert (code, err) == (0, "")
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["account"], row["requests"], row["failed"]) == ("acme", "6", "1")

"""Credits and usage over HTTP, for admins alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from schemas import bus as buses
from schemas import subjects
from schemas.bus import BusDenied
from schemas.jetstream import reading
from schemas.settings import Nats
from tests.acceptance.cloud.cloud_setup import ACCOUNT, CloudSetup
from tests.doubles.providers import OpenAI
from tests.fabric import PATIENCE, Fabric, ask

INBOXES = {
    "ingress": subjects.INBOX_INGRESS,
    "worker": subjects.INBOX_WORKER,
    "fallback": subjects.INBOX_FALLBACK,
}
ADMIN = "sk-admin-0123456789abcdef"


async def _call(setup: CloudSetup, verb: str, path: str, key: str = ADMIN, **more: Any) -> Any:
    url, headers = setup.fabric.url + path, {"Authorization": f"Bearer {key}"}
    async with setup.fabric.session.request(verb, url, headers=headers, **more) as answer:
        return answer.status, await answer.json()


@asynccontextmanager
async def _counted(fabric: Fabric) -> AsyncIterator[None]:
    """Wait until what workers serve meanwhile is counted, which is told every few seconds."""
    bus, counted = await fabric.admin(), asyncio.Event()
    follower = reading.Follower(bus, subjects.USAGE_STREAM, lambda _: counted.set())
    await follower.open(since=0.0, last=0)
    yield
    async with asyncio.timeout(PATIENCE):
        await counted.wait()
    await follower.close()
    await bus.close()


async def test_an_admin_grants_and_sees(setup: CloudSetup, sim: OpenAI) -> None:
    setup.provider("sim", sim)
    setup.price("sim", "gpt-4o-mini")
    setup.route("echo", ["sim/gpt-4o-mini"], model="echo")
    admin = f'[[keys]]\nname = "root"\nsecret = "{ADMIN}"\nadmin = true\n'
    await setup.ingress(keys=admin)
    status, body = await _call(setup, "GET", f"/admin/credits/{ACCOUNT}")
    assert (status, body["error"]["code"]) == (503, "no_worker")
    await setup.fallback()
    await setup.provided("echo")
    status, body = await _call(
        setup, "GET", f"/admin/credits/{ACCOUNT}", setup.fabric.headers["Authorization"][7:]
    )
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")
    status, body, _ = await setup.fabric.post(ask("#a one", max_tokens=5))
    assert (status, body["error"]["code"]) == (402, "insufficient_credits")
    assert "headrace credits grant" in body["error"]["message"]

    path = f"/admin/credits/{ACCOUNT}/grants"
    for _ in range(2):  # once, as its id is the same
        grant = {"amount": "0.5", "note": "first", "id": "g-1"}
        status, body = await _call(setup, "POST", path, json=grant)
        assert (status, body["data"]) == (200, {"available": 500_000})
    status, body = await _call(setup, "POST", path, json={"amount": "10000"})
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert "9999.5 of 10000" in body["error"]["message"]
    wrongs: list[Any] = [{"amount": "1e99"}, {"amount": "0.0000001"}, {"sum": 1}, {}, []]
    for wrong in wrongs:
        status, body = await _call(setup, "POST", path, json=wrong)
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    other = "/admin/credits/nobody/grants"
    status, body = await _call(setup, "POST", other, json={"amount": "1"})
    assert (status, body["error"]["param"]) == (400, "create")
    status, body = await _call(setup, "POST", other, json={"amount": "1", "create": True})
    assert (status, body["data"]) == (200, {"available": 1_000_000})
    status, body = await _call(setup, "GET", "/admin/credits")
    assert [(each["account"], each["available"]) for each in body["data"]] == sorted(
        [(ACCOUNT, 500_000), ("nobody", 1_000_000)]
    )
    status, body = await _call(
        setup, "GET", "/admin/credits", setup.fabric.headers["Authorization"][7:]
    )
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")
    status, body = await _call(setup, "POST", path, json={"amount": "-0.6"})
    assert (status, body["error"]["code"]) == (402, "insufficient_credits")

    status, _, _ = await setup.fabric.post(ask("#a one", max_tokens=2))
    assert status == 200
    status, body = await _call(setup, "GET", f"/admin/credits/{ACCOUNT}/history?limit=10")
    assert [entry["kind"] for entry in body["data"]] == ["grant", "reserve", "charge"]
    status, body = await _call(setup, "GET", "/admin/usage?by=key,model,provider")
    [row] = body["data"]
    assert (row["key"], row["model"], row["provider"]) == ("test", "echo", "sim")
    assert (row["requests"], row["prompt"], row["completion"]) == (1, 2, 2)
    status, body = await _call(setup, "GET", f"/admin/credits/{ACCOUNT}")
    assert body["data"] == {"available": 500_000 - row["cost"], "reserved": 0}
    await setup.fabric.worker()
    await setup.fabric.served("echo")
    async with _counted(setup.fabric):
        status, _, headers = await setup.fabric.post(ask("one two three"))
    assert (status, headers["x-headrace-served-by"].partition(":")[0]) == (200, "node")
    _, body = await _call(setup, "GET", "/admin/usage?by=provider")
    local, paid = body["data"]
    assert (local["provider"], local["requests"], local["cost"]) == ("", 1, 0)
    assert body["total"]["requests"] == 2
    assert (paid["provider"], paid["requests"], paid["cost"]) == ("sim", 1, row["cost"])
    assert (local["prompt"], local["completion"]) == (3, 3)
    for query in ("since=yesterday", "by=colour", "by="):
        status, body = await _call(setup, "GET", f"/admin/usage?{query}")
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("role", ["ingress", "worker", "fallback"])
async def test_a_stolen_login_of_the_fabric_grants_itself_no_million(
    setup: CloudSetup, sim: OpenAI, role: str
) -> None:
    """It asks as an ingress does, and as earlier releases did."""
    setup.provider("sim", sim)
    setup.price("sim", "gpt-4o-mini")
    setup.route("echo", ["sim/gpt-4o-mini"], model="echo")
    await setup.ingress()  # makes the streams
    await setup.fallback()
    await setup.grant(5, "rich")
    user, password = setup.fabric.broker.users[role]
    login = Nats(url=setup.fabric.broker.url, user=user, password=SecretStr(password))
    thief = await buses.connect(login, "thief", f"{INBOXES[role]}.thief")
    wanted = {"op": "grant", "account": ACCOUNT, "amount": 10**12, "note": "", "by": "root"}
    taken = {**wanted, "account": "rich", "amount": -5}
    for asked in (wanted, taken):
        if role == "ingress":
            said = await thief.request(subjects.ASK_LEDGER, orjson.dumps(asked))
            assert orjson.loads(said.data)["kind"] == "invalid"
        with pytest.raises(BusDenied):
            await thief.request(subjects.ASK_GRANT, orjson.dumps(asked), timeout=0.5)
    await thief.close()
    assert (await setup.balance()).available == 0
    assert (await setup.balance("rich")).available == 5


async def test_an_ingress_without_the_login_of_the_keys_says_what_grants_need(
    setup: CloudSetup, sim: OpenAI
) -> None:
    admin = f'[[keys]]\nname = "root"\nsecret = "{ADMIN}"\nadmin = true\n'
    await setup.ingress({"vault.user": "", "vault.password": ""}, keys=admin)
    path = f"/admin/credits/{ACCOUNT}/grants"
    grant = {"amount": "1", "create": True}
    status, body = await _call(setup, "POST", path, json=grant)
    assert (status, body["error"]["code"]) == (503, "keys_unavailable")
    assert "headrace credits grant" in body["error"]["message"]

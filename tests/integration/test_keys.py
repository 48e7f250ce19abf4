"""The store of keys: its account at the broker, the admin's endpoints, ingresses that follow."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from schemas.bus import NotFound
from schemas.settings import outside
from tests import forks
from tests.fabric import PATIENCE, Fabric, Process, ask
from tests.integration.deploy.roles import page

ADMIN = "sk-admin-0123456789abcdef"
TABLE = f'[[keys]]\nname = "boss"\nsecret = "{ADMIN}"\nadmin = true\n'
SOON, TRIES = 0.1, 50
"""Seconds within which a change is in force everywhere; how many changes there are at most until
one is, as the machine may be busy."""


def refusal(told: tuple[int, Any]) -> tuple[int, str, str | None]:
    """(status, code, param)"""
    status, document = told
    return status, document["error"]["code"], document["error"]["param"]


class Keys:
    """The admin's endpoints of one ingress, and what a key is good for at any of them."""

    def __init__(self, fabric: Fabric, url: str) -> None:
        self.fabric = fabric
        self.url = url

    async def say(self, verb: str, path: str, body: Any = None, key: str = ADMIN) -> Any:
        """(status, JSON)"""
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.url}/admin/{path}"
        async with self.fabric.session.request(verb, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def make(self, name: str, **policy: Any) -> str:
        status, made = await self.say("POST", "keys", {"name": name, **policy})
        assert status == 201, made
        secret: str = made["secret"]
        return secret

    async def code(self, secret: str, url: str = "") -> str:
        """What a chat with this key gets: "" or the code of an error."""
        headers = {"Authorization": f"Bearer {secret}"}
        url = (url or self.url) + "/v1/chat/completions"
        async with self.fabric.session.post(url, json=ask("hi"), headers=headers) as answer:
            found = await answer.json()
            return "" if answer.status == 200 else str(found["error"]["code"])

    async def until(self, code: str, secret: str, *urls: str) -> None:
        """Wait until that is so at each of these."""
        async with asyncio.timeout(PATIENCE):
            for url in urls or (self.url,):
                while await self.code(secret, url) != code:
                    await asyncio.sleep(0.01)


async def served(
    fabric: Fabric, ingresses: int = 1, config: dict[str, Any] | None = None
) -> tuple[Keys, list[Process]]:
    found = [await fabric.ingress(config, tables=TABLE) for _ in range(ingresses)]
    await fabric.worker()
    for each in found:
        await fabric.served("echo", url=each.url)
    return Keys(fabric, found[0].url), found


async def test_an_ingress_has_a_second_connection_for_the_keys(fabric: Fabric) -> None:
    await fabric.ingress()
    seen = page(fabric.broker, "/connz?auth=true&acc=KEYS")["connections"]
    assert [(each["authorized_user"], each["name"].split("/")[0]) for each in seen] == [
        ("keys", "headrace-keys")
    ]


async def test_an_ingress_without_a_login_for_them_says_so_and_serves(fabric: Fabric) -> None:
    keys, (ingress,) = await served(fabric, config={"vault.user": ""})
    await ingress.logged("ingress.no_vault")
    assert (await fabric.post(ask("hi")))[0] == 200
    status, told = await keys.say("GET", "keys")
    assert (status, told["error"]["code"]) == (503, "keys_unavailable")


async def test_a_key_is_made_edited_rotated_and_revoked(fabric: Fabric) -> None:
    keys, (ingress,) = await served(fabric)
    first = await keys.make("alice", account="a", limits={"requests": 60}, note="for tests")
    await keys.until("", first)
    assert refusal(await keys.say("POST", "keys", {"name": "alice"})) == (409, "key_exists", "name")
    assert refusal(await keys.say("POST", "keys", {"name": "test"})) == (409, "key_exists", "name")

    status, told = await keys.say("PATCH", "keys/alice", {"models": ["llama*"], "note": None})
    assert (status, told["models"], told["limits"]["requests"], told["note"]) == (
        200, ["llama*"], 60, "",
    )  # fmt: skip
    await keys.until("model_not_found", first)
    await keys.say("PATCH", "keys/alice", {"models": None})
    await keys.until("", first)

    status, told = await keys.say("POST", "keys/alice/rotate", {"grace": "1h"})
    second = told["secret"]
    assert (status, told["secrets"]) == (200, 2)
    await keys.until("", second)
    assert await keys.code(first) == ""
    third = (await keys.say("POST", "keys/alice/rotate", {"grace": 0}))[1]["secret"]
    await keys.until("invalid_api_key", second)
    assert await keys.code(third) == ""

    assert (await keys.say("DELETE", "keys/alice"))[1]["revoked"]
    await keys.until("invalid_api_key", third)
    assert refusal(await keys.say("DELETE", "keys/alice")) == (404, "not_found", "name")
    names = [each["name"] for each in (await keys.say("GET", "keys"))[1]["data"]]
    assert names == ["test", "boss"]
    assert len((await keys.say("GET", "keys?revoked=true"))[1]["data"]) == 3

    fourth = await keys.make("alice")
    await keys.until("", fourth)
    logged = str(ingress.lines)
    assert not [each for each in (first, second, third, fourth) if each in logged]
    assert fabric.tracebacks() == []


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code", "param"),
    [
        ("POST", "keys", {}, 400, "invalid_request", "name"),
        ("POST", "keys", {"name": " a"}, 400, "invalid_request", "name"),
        ("POST", "keys", {"name": "a/b"}, 400, "invalid_request", "name"),
        ("POST", "keys", {"name": "a", "scope": ["admin"]}, 400, "invalid_request", "scope"),
        ("POST", "keys", {"name": "a", "scopes": ["root"]}, 400, "invalid_request", "scopes"),
        ("POST", "keys", {"name": "a", "nodes": [""]}, 400, "invalid_request", "nodes"),
        ("POST", "keys", {"name": "a", "expires": "soon"}, 400, "invalid_request", "expires"),
        ("POST", "keys", {"name": "a", "limits": 5}, 400, "invalid_request", "limits"),
        ("POST", "keys", {"name": "a", "secret": "short"}, 400, "invalid_request", "secret"),
        ("POST", "keys", {"name": "a", "secret": "hr_sk_" + "0" * 36}, 400, "invalid_request",
         "secret"),
        ("POST", "keys", [1], 400, "invalid_request", None),
        ("PATCH", "keys/nobody", {"note": "x"}, 404, "not_found", "name"),
        ("PATCH", "keys/boss", {"note": "x"}, 400, "invalid_request", "name"),
        ("POST", "keys/nobody/rotate", {"grace": "91d"}, 400, "invalid_request", "grace"),
        ("POST", "keys/nobody/rotate", {"after": 1}, 400, "invalid_request", "after"),
        ("PATCH", "accounts/a", {"weight": 0}, 400, "invalid_request", "weight"),
        ("GET", "keys/nobody", None, 404, "not_found", "name"),
        ("PUT", "keys/nobody", {}, 405, "method_not_allowed", None),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_by_name(
    admin: Keys, verb: str, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    assert refusal(await admin.say(verb, path, body)) == (status, code, param)


@pytest.fixture
async def admin(fabric: Fabric) -> Keys:
    ingress = await fabric.ingress(tables=TABLE)
    return Keys(fabric, ingress.url)


async def test_only_an_admin_gets_there(admin: Keys) -> None:
    secret = await admin.make("alice", scopes=["inference", "models:read", "usage:read"])
    chief = await admin.make("chief", scopes=["admin"])
    async with asyncio.timeout(PATIENCE):
        while (await admin.say("GET", "keys", key=chief))[0] != 200:
            await asyncio.sleep(0.01)
    for verb, path in [("GET", "keys"), ("POST", "keys"), ("DELETE", "keys/chief"),
                       ("PATCH", "accounts/a"), ("POST", "keys/chief/rotate")]:  # fmt: skip
        refused = refusal(await admin.say(verb, path, {}, key=secret))
        assert refused == (403, "insufficient_scope", None)


async def test_no_answer_with_a_secret_is_stored(admin: Keys) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}", "Idempotency-Key": "k"}
    url = f"{admin.url}/admin/keys"
    async with admin.fabric.session.post(url, json={"name": "a"}, headers=headers) as answer:
        told = answer.status, await answer.json()
    assert refusal(told) == (400, "invalid_request", "Idempotency-Key")


async def test_an_accounts_record_is_kept_and_merged(admin: Keys) -> None:
    await admin.say("PATCH", "accounts/lab", {"limits": {"requests": 5}, "weight": 2})
    status, told = await admin.say("PATCH", "accounts/lab", {"limits": {"concurrent": 3}})
    limits = {name: value for name, value in told["limits"].items() if value is not None}
    assert (status, limits, told["weight"]) == (200, {"requests": 5, "concurrent": 3}, 2.0)
    assert (await admin.say("GET", "accounts"))[1]["data"] == [told]


async def test_a_change_is_in_force_at_three_ingresses_within_a_tenth_of_a_second(
    fabric: Fabric,
) -> None:
    keys, ingresses = await served(fabric, 3)
    urls = [each.url for each in ingresses]
    secret = await keys.make("alice")
    await keys.until("", secret, *urls)
    subject = {"subject": "keys.alice"}
    took = [float("inf")]
    while min(took) >= SOON and len(took) <= TRIES:
        number = len(took)
        told = (await keys.say("PATCH", "keys/alice", {"note": f"{number}"}))[1]
        lines = [await each.logged("keys.changed", skip=number, **subject) for each in ingresses]
        stamps = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
        took.append(max(stamps) - told["changed"])
    assert min(took) < SOON, took
    await keys.say("DELETE", "keys/alice")
    await keys.until("invalid_api_key", secret, *urls)


async def test_while_the_store_is_away_known_keys_go_on_for_a_while(fabric: Fabric) -> None:
    """The ingress serves what it can answer without a broker: its list of models."""
    keys, (ingress,) = await served(fabric, config={"ingress.vault_away": 2.0})
    secret = await keys.make("alice")
    await keys.until("", secret)
    fabric.broker.kill()
    await ingress.logged("bus.disconnected")

    async def listed(key: str) -> tuple[int, str | None]:
        headers = {"Authorization": f"Bearer {key}"}
        async with fabric.session.get(f"{keys.url}/v1/models", headers=headers) as answer:
            return answer.status, answer.headers.get("retry-after")

    known = await listed(secret)
    unknown = "sk-unknown-0123456789"
    assert (known[0], (await listed(unknown))) == (200, (503, "1"))
    async with asyncio.timeout(PATIENCE):
        while (await listed(secret))[0] != 503:
            await asyncio.sleep(0.05)
    assert (await listed(ADMIN))[0] == 200, "the configuration's own keys need no store"
    assert (await listed(secret[:-1]))[0] == 401, "mistyped, whatever the store has"
    fabric.broker.restart()
    await keys.until("", secret)
    async with asyncio.timeout(PATIENCE):
        while (await listed(unknown))[0] != 401:
            await asyncio.sleep(0.05)


async def test_an_address_that_guesses_is_told_to_wait(fabric: Fabric) -> None:
    keys, _ = await served(fabric, config={"ingress.failed_keys": 5})
    assert await keys.code(ADMIN) == ""
    codes = [await keys.code(f"sk-guess-0123456789-{number}") for number in range(7)]
    assert codes == ["invalid_api_key"] * 5 + ["too_many_attempts"] * 2
    assert await keys.code(ADMIN) == "", "who was here before goes on"
    fresh = await keys.make("alice")
    assert await keys.code(fresh) == "too_many_attempts"


async def test_behind_a_trusted_proxy_the_client_is_who_it_says(fabric: Fabric) -> None:
    config: dict[str, Any] = {"ingress.failed_keys": 2, "ingress.trusted_proxies": ["127.0.0.1"]}
    keys, _ = await served(fabric, config=config)

    async def guess(of: str) -> int:
        headers = {"Authorization": "Bearer sk-guess-0123456789", "X-Forwarded-For": of}
        async with fabric.session.get(f"{keys.url}/v1/models", headers=headers) as answer:
            return answer.status

    assert [await guess("10.0.0.1") for _ in range(3)] == [401, 401, 429]
    assert await guess("10.0.0.2") == 401


async def test_a_login_for_the_keys_that_is_refused_ends_with_a_line(fabric: Fabric) -> None:
    user, password = fabric.broker.users["ingress"]
    path = fabric.home / "refused.toml"
    path.write_text(
        f'[nats]\nurl = "{fabric.broker.url}"\nuser = "{user}"\npassword = "{password}"\n'
        '[vault]\nuser = "keys"\npassword = "hunter2"\n[ingress]\nport = 0\n'
    )
    async with asyncio.timeout(PATIENCE):
        code, _, said = await forks.run("ingress", "--config", str(path))
    assert code == 1
    assert said.splitlines()[-1].startswith("headrace: [vault]: ")
    assert "the broker refuses the login 'keys'" in said.splitlines()[-1]
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("admin", "there is no store of keys at"),
        ("ingress", "is it the login of another role?"),
    ],
)
async def test_a_login_of_another_account_founds_no_store(
    fabric: Fabric, role: str, why: str
) -> None:
    user, password = fabric.broker.users[role]
    url = fabric.broker.url.replace("://", f"://{user}:{password}@")
    async with asyncio.timeout(PATIENCE):
        code, _, said = await forks.run("key", "create", "alice", "--nats", url)
    assert code == 1
    assert said.startswith("headrace: ")
    assert why in said
    assert said.count("\n") == 1
    bus = await fabric.admin()
    with pytest.raises(NotFound):
        await bus.api("STREAM.INFO.KEYS")
    await bus.close()


async def test_beyond_this_machine_no_ingress_listens_without_a_key(fabric: Fabric) -> None:
    user, password = fabric.broker.users["ingress"]
    login, secret = fabric.broker.users["keys"]
    path = fabric.home / "bare.toml"
    path.write_text(
        f'[nats]\nurl = "{fabric.broker.url}"\nuser = "{user}"\npassword = "{password}"\n'
        f'[vault]\nuser = "{login}"\npassword = "{secret}"\n'
        '[ingress]\nhost = "0.0.0.0"\nport = 0\n'
    )
    command = ["ingress", "--config", str(path), "--data", str(fabric.home / "data")]
    async with asyncio.timeout(PATIENCE):
        code, _, said = await forks.run(*command)
        assert code == 1
        assert "without any API key" in said.splitlines()[-1]
        made = await forks.run("key", "create", "alice", "--config", str(path))
        assert made[0] == 0
    process = Process("reachable", await forks.start(command, outside()))
    fabric.processes.append(process)
    await process.logged("ingress.listening")

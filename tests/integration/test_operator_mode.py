"""A fabric at a NATS in operator mode: each login is a file of credentials, made by `nsc`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from deploy.nats.broker import Broker
from deploy.nats.config import MAX_PAYLOAD
from fallback.credits.entries import EntryKind
from schemas import subjects
from tests import forks
from tests.acceptance.cloud.cloud_setup import SECRET, cloud
from tests.doubles.nsc.program import Nsc
from tests.doubles.providers import OpenAI
from tests.fabric import Fabric, ask, opened, table
from tests.servers import Server, server

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACED = "echo://?model=echo&slots=2&token_ms=40"
WORDS = " ".join(f"w{number}" for number in range(60))


class Operated(Fabric):
    """Processes with credentials in place of passwords."""

    def __init__(self, running: Server, home: Path, creds: Path) -> None:
        super().__init__(cast(Broker, running), home)  # nothing is asked of it but its address
        self._creds = creds
        self.admins = home / "admin.toml"

    def login(self, role: str) -> dict[str, str]:
        return {"creds": str(self._creds / f"{role}.creds")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operated]:
    """Its accounts are those that the printed script makes; an ingress and a worker run."""
    home = tmp_path_factory.mktemp("operated")
    code, script, _ = await forks.run("nats", "accounts", "--nsc", "--system", "SYS")
    assert code == 0
    operator = Nsc(home)
    operator.run(script)
    store = {"store_dir": str(home / "store")}
    config = operator.config(jetstream=store, max_payload=MAX_PAYLOAD, ping_max=2)
    with server(home / "server", config) as running:
        async with opened(Operated(running, home, home / "headrace-creds")) as made:
            await set_up(made)
            await made.ingress()
            await made.worker(PACED)
            await made.served("echo")
            yield made


async def set_up(made: Operated) -> None:
    logins = (("nats", "admin"), ("vault", "keys"), ("ledger", "ledger"))
    sections = {section: made.login(role) for section, role in logins}
    sections["nats"]["url"] = made.broker.url
    made.admins.write_text("".join(map(table, sections, sections.values())))
    setup = ("nats", "setup", "--url", made.broker.url, "--config", str(made.admins))
    code, told, err = await forks.run(*setup)
    assert (code, err) == (0, "")
    for name in (subjects.JOBS_STREAM, subjects.NODES_STREAM, subjects.KEYS_STREAM):
        assert f"stream {name} is made" in told
    assert "made" not in (await forks.run(*setup))[1]


async def test_a_worker_serves(operated: Operated) -> None:
    status, body, _ = await operated.post(ask("one two"))
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two")


async def test_that_a_worker_died_is_told_at_once(operated: Operated) -> None:
    """By the system account, which names accounts by their keys."""
    ingress, holder = operated.processes[:2]
    began = asyncio.Event()
    asked = asyncio.create_task(operated.stream(ask(WORDS), on_text=lambda _: began.set()))
    await began.wait()
    await operated.worker(PACED)
    await holder.kill()
    await ingress.logged("worker.lost")
    assert await asked == (200, WORDS, True)


async def test_a_fallback_takes_what_no_worker_serves(operated: Operated) -> None:
    async with OpenAI(key=SECRET) as provider, cloud(operated) as setup:
        setup.provider("sim", provider)
        setup.price("sim", "gpt-4o-mini")
        setup.route("paid", ["sim/gpt-4o-mini"])
        operated.url = (await setup.ingress()).url
        await setup.grant(1_000_000)
        await setup.fallback()
        await setup.provided("paid")
        status, body, headers = await operated.post({**ask("one two"), "model": "paid"})
        assert (status, headers["x-headrace-served-by"]) == (200, "provider:sim"), body
        await setup.written(EntryKind.CHARGE)


async def test_a_key_that_is_made_is_known_at_once(operated: Operated) -> None:
    config = str(operated.admins)
    code, secret, _ = await forks.run("key", "create", "alice", "--config", config)
    assert code == 0
    headers = {"Authorization": f"Bearer {secret.strip()}"}
    async with operated.session.get(operated.url + "/v1/models", headers=headers) as answer:
        assert answer.status == 200


async def test_commands_see_all_of_it(operated: Operated) -> None:
    data = str(operated.home / "data")
    code, told, _ = await forks.run("doctor", "--config", str(operated.admins), "--data", data)
    assert code == 0, told
    assert "stream JOBS is as it should be" in told
    assert "keys in the store" in told

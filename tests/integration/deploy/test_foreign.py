"""A NATS that others run: plain accounts, and operator mode with claims made by `nsc`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.nats import foreign
from deploy.nats.broker import Broker
from schemas import settings as configured_by
from schemas import subjects
from tests import forks, ports
from tests.doubles.nsc.program import Nsc
from tests.fabric import PATIENCE, ask, fabric, table
from tests.servers import Server, server, started

PASSWORDS = {role: f"the-password-of-{role}" for role in foreign.logins(own_system=True)}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Server]:
    """One with the accounts that `headrace nats accounts` prints."""
    known = {foreign.variable(role): password for role, password in PASSWORDS.items()}
    config = {"jetstream": {"store_dir": str(tmp_path / "store")}}
    with server(tmp_path / "plain", config, foreign.config(), known) as running:
        yield running


def settings(path: Path, url: str, **more: dict[str, Any]) -> str:
    """A file with the logins that `setup` needs."""
    sections = {
        "nats": {"url": url, "user": "admin", "password": PASSWORDS["admin"]},
        "vault": {"user": "keys", "password": PASSWORDS["keys"]},
        "ledger": {"user": "ledger", "password": PASSWORDS["ledger"]},
        **more,
    }
    path.write_text("".join(map(table, sections, sections.values())))
    return str(path)


async def setup(*arguments: str) -> tuple[int, str]:
    code, out, err = await forks.run("nats", "setup", *arguments)
    assert not err
    return code, out


async def test_what_lacks_is_told_and_made(plain: Server, tmp_path: Path) -> None:
    config = settings(tmp_path / "admin.toml", plain.url)
    code, told = await setup("--config", config, "--dry-run")
    assert code == 1  # larger messages can only be allowed by whoever runs it
    assert "set max_payload" in told
    for name in (subjects.JOBS_STREAM, subjects.KEYS_STREAM, subjects.CREDITS_STREAM):
        assert f"stream {name} is missing" in told
    _, told = await setup("--config", config)
    assert "stream JOBS is made" in told
    assert "missing" not in told
    _, told = await setup("--config", config, "--dry-run")
    assert "stream JOBS is as it should be" in told


async def test_three_servers_by_the_lines_of_the_page(tmp_path: Path) -> None:
    code, accounts, _ = await forks.run("nats", "accounts")
    assert code == 0
    _, lines, _ = await forks.run("nats", "accounts", "--passwords")
    passwords = dict(line.split("=") for line in lines.splitlines())
    own = {name: (ports.free(), ports.free()) for name in "abc"}
    url = ",".join(f"nats://127.0.0.1:{port}" for port, _ in own.values())
    with ExitStack() as stack:
        for name in own:
            folder = tmp_path / name
            folder.mkdir()
            (folder / "accounts.conf").write_text(accounts)
            (folder / "nats.conf").write_text(configured(name, own))
            stack.enter_context(started(folder, folder / "nats.conf", passwords))
        at = {"HEADRACE_NATS__URL": url, "HEADRACE_NATS__REPLICAS": "3"}
        admin = {"USER": "admin", "PASSWORD": passwords["NATS_PASSWORD_ADMIN"]}
        env = passwords | at | {f"HEADRACE_NATS__{name}": value for name, value in admin.items()}
        await made(env, tmp_path)
        broker = cast(Broker, Known(url, passwords))
        common = {"nats.url": url, "nats.replicas": 3, "ingress.broker_wait": 60.0}
        async with fabric(broker, tmp_path, common) as running:
            await asyncio.gather(running.ingress(), running.worker())
            await running.served("echo")
            status, body, _ = await running.post(ask("all three"))
            assert status == 200, body


@dataclass(frozen=True)
class Known:
    """A broker by its address and the variables with its passwords."""

    url: str
    passwords: dict[str, str]

    @property
    def users(self) -> dict[str, tuple[str, str]]:
        roles = foreign.logins(own_system=True)
        return {role: (role, self.passwords[foreign.variable(role)]) for role in roles}


def configured(name: str, own: dict[str, tuple[int, int]]) -> str:
    """The page's configuration of server a, as that of `name` on this machine. `own`: the ports of
    each for clients and for the others."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    text: str
    [text] = re.findall(r"^```\n(# nats\.conf of a;.*?)^```", page, re.DOTALL | re.MULTILINE)
    for before, after in (
        ("server_name: a", f"server_name: {name}"),
        ("0.0.0.0:4222", f"127.0.0.1:{own[name][0]}"),
        ("0.0.0.0:6222", f"127.0.0.1:{own[name][1]}"),
        *((f"nats://{each}:6222", f"nats://127.0.0.1:{own[each][1]}") for each in own),
    ):
        assert before in text
        text = text.replace(before, after)
    return text


async def made(env: dict[str, str], folder: Path) -> None:
    """Streams can be made once the three have chosen a leader."""
    async with asyncio.timeout(PATIENCE):
        while True:
            command = ("nats", "setup", "--data", str(folder / "data"))
            fork = await forks.start(command, {**configured_by.outside(), **env})
            said, code = await fork.stderr.read(), await fork.wait()
            if code == 0:
                return
            assert not said, said


def test_beside_a_system_account_that_is_there_already(tmp_path: Path) -> None:
    """What is printed for that is included among the other accounts, and says what is to be added
    to the system account."""
    text = foreign.config("OPS")
    [told] = re.findall(r"^# The account OPS .*: exports: (\[.*\])$", text, re.MULTILINE)
    (tmp_path / "headrace.conf").write_text(text)
    accounts = f"accounts {{ OPS {{ users: [], exports: {told} }}\ninclude ../headrace.conf\n}}"
    known = {foreign.variable(role): password for role, password in PASSWORDS.items()}
    config = {"jetstream": {"store_dir": str(tmp_path / "store")}, "system_account": "OPS"}
    with server(tmp_path / "server", config, accounts, known) as running:
        assert running.url.startswith("nats://")  # it took the whole configuration


def test_without_the_system_account_nsc_is_told_nothing_of_it(tmp_path: Path) -> None:
    made = Nsc(tmp_path)
    made.run(foreign.commands())
    assert len(made.accounts["SYS"].exports) == 2
    assert not made.accounts["SYS"].users
    assert "JOIN" not in made.accounts
    assert not any(each["account"] == made.accounts["SYS"].keys.public for each in imports(made))


def imports(made: Nsc) -> list[dict[str, Any]]:
    return [each for account in made.accounts.values() for each in account.imports]

"""A machine joins with a token, as one process would: a real broker with TLS, and its hub."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from deploy import configure, home, plan
from deploy.configure import CommandFailed, Where
from deploy.nats import broker as brokers
from deploy.nats import store as stores
from deploy.nats.broker import Broker
from deploy.nodes import joining, kept
from deploy.nodes.hub import Hub
from deploy.nodes.store import NodeStore
from deploy.nodes.token import Token
from schemas import bus as buses
from schemas import nkeys
from schemas.bus import Bus, BusError
from schemas.registry import Invite, Node
from schemas.settings import SettingsError, Share
from tests import ports
from tests.integration.deploy.test_hub import applied

HOUR = 3600


class Setup:
    """A hub in `place`, whose broker is shared, and an administrator's connection to it."""

    def __init__(self, place: Path, broker: Broker, bus: Bus) -> None:
        self.place = place
        self.broker = broker
        self.bus = bus
        self.store = NodeStore(bus)
        self._names = iter(range(1000))

    async def applied(self, place: int = 0) -> None:
        await applied(self.bus, place)

    def name(self) -> str:
        return f"box-{next(self._names)}"

    async def token(self, role: str = "worker", name: str = "", left: float = HOUR) -> Token:
        """One that the hub knows."""
        address = stores.find(home.broker_store(self.place))
        assert address
        key, now = nkeys.make(), time.time()
        name = name or self.name()
        made = Invite(secrets.token_hex(8), name, key.public, now + left, now, role=role)
        await self.applied(await self.store.invite(made))
        fingerprint = bytes.fromhex(address.fingerprint)
        ends = int(made.expires)
        return Token(address.addresses, fingerprint, made.id, key.secret, role, name, ends)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setup(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setup]:
    place = tmp_path_factory.mktemp("hub")
    share = Share(host="127.0.0.1", port=ports.free(), websocket_port=ports.free())
    with brokers.start(home.broker_store(place), share=share) as broker:
        hub = asyncio.create_task(Hub(broker, Where(place).local).run())
        bus = await buses.connect(Where(place).local("admin"), "test", "_A.test")
        made = Setup(place, broker, bus)
        await made.applied()
        await made.store.open()
        yield made
        await bus.close()
        hub.cancel()
        await asyncio.gather(hub, return_exceptions=True)


async def refusal(token: Token | str, data: Path, role: str = "worker") -> str:
    """The one line that says why it cannot join."""
    said = token if isinstance(token, str) else token.pack()
    with pytest.raises(CommandFailed) as fault:
        await joining.join(said, role, data)
    text = str(fault.value)
    assert "\n" not in text
    assert said not in text

    return text


async def connected(role: str, data: Path) -> list[Bus]:
    """The connections that a process of this role would have."""
    flags: dict[str, Any] = {"engines": [{"name": "a", "kind": "echo", "url": "echo://"}]}
    if role == "fallback":
        flags["route"] = [{"name": "a", "model": "b", "providers": ["c/d"]}]
        flags["providers"] = [{"name": "c", "kind": "openai", "key_env": "C"}]
    found = configure.resolve(role, Where(data), flags)
    section = kept.SECOND.get(role)
    logins = [found.nats]
    if section:
        logins.append(getattr(found, section).beside(found.nats))
    inboxes = {"worker": "_W.x", "ingress": "_I.x", "fallback": "_F.x"}
    return [await buses.connect(login, "test", inboxes[role]) for login in logins]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("role", ["worker", "ingress", "fallback"])
async def test_it_joins_once_and_connects_ever_after(
    setup: Setup, tmp_path: Path, role: str
) -> None:
    token = await setup.token(role)
    node = await joining.join(token.pack(), role, tmp_path)
    assert node
    assert (node.name, node.role) == (token.name, role)
    for _ in range(2):
        for bus in await connected(role, tmp_path):
            await bus.close()
    # As where the token stays in the environment of a unit.
    assert await joining.join(token.pack(), role, tmp_path) is None
    for path in kept.folder(tmp_path, role).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert kept.folder(tmp_path, role).stat().st_mode & 0o777 == 0o700
    assert "already: leave --join out" in await refusal(await setup.token(role), tmp_path, role)


@pytest.mark.asyncio(loop_scope="module")
async def test_it_joins_through_the_web(setup: Setup, tmp_path: Path) -> None:
    token = await setup.token()
    web = tuple(each for each in token.addresses if each.startswith("wss:"))
    node = await joining.join(replace(token, addresses=web).pack(), "worker", tmp_path)
    assert node
    assert node.url.startswith("wss://")
    (bus,) = await connected("worker", tmp_path)
    await bus.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_first_good_address_is_used_and_the_others_kept(
    setup: Setup, tmp_path: Path
) -> None:
    token = await setup.token()
    dead = f"tls://127.0.0.1:{ports.free()}"
    node = await joining.join(
        replace(token, addresses=(dead, *token.addresses)).pack(), "worker", tmp_path
    )
    assert node
    assert node.url.split(",") == [setup.broker.url, dead]


@pytest.mark.asyncio(loop_scope="module")
async def test_tokens_from_elsewhere(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (await setup.token()).pack()
    file = tmp_path / "token"
    file.write_text(f"{text}\n")
    assert await joining.join(f"@{file}", "worker", tmp_path / "a")
    text = (await setup.token()).pack()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=lambda _: text + "\n"))
    assert await joining.join("-", "worker", tmp_path / "b")
    with pytest.raises(CommandFailed, match="No such file"):
        await joining.join("@/nowhere", "worker", tmp_path / "c")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_used_token(setup: Setup, tmp_path: Path) -> None:
    token = await setup.token()
    assert await joining.join(token.pack(), "worker", tmp_path / "a")
    assert "was used already" in await refusal(token, tmp_path / "b")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_expired_token(setup: Setup, tmp_path: Path) -> None:
    token = await setup.token(left=-1)
    assert "has expired: ask for a new one" in await refusal(token, tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_that_the_hub_does_not_know(setup: Setup, tmp_path: Path) -> None:
    token = replace(await setup.token(), secret=bytes(32))
    assert "does not know this token: it was used or withdrawn" in await refusal(token, tmp_path)
    old = replace(token, expires=1)
    assert "any more, which has expired" in await refusal(old, tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cut_or_altered_token_asks_nobody(setup: Setup, tmp_path: Path) -> None:
    text = (await setup.token()).pack()
    for wrong in (text[:-1], text[:30] + text[31:], text.swapcase()):
        assert "--join: " in await refusal(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_of_another_role(setup: Setup, tmp_path: Path) -> None:
    said = await refusal(await setup.token("ingress"), tmp_path)
    assert "'headrace ingress --join" in said


@pytest.mark.asyncio(loop_scope="module")
async def test_a_name_that_is_taken(setup: Setup, tmp_path: Path) -> None:
    first, second = await setup.token(name="twin"), await setup.token(name="twin")
    assert await joining.join(first.pack(), "worker", tmp_path / "a")
    assert "there is a node 'twin' already" in await refusal(second, tmp_path / "b")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("off", "said"), [(HOUR, "60 min ahead of"), (-HOUR, "60 min behind")])
async def test_a_clock_that_is_off_by_an_hour(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int, said: str
) -> None:
    token = await setup.token(left=3 * HOUR)
    wrong = SimpleNamespace(time=lambda: time.time() + off)
    monkeypatch.setattr(joining, "time", wrong)
    assert said in await refusal(token, tmp_path)
    monkeypatch.undo()
    assert await joining.join(token.pack(), "worker", tmp_path)  # it was not used up


@pytest.mark.asyncio(loop_scope="module")
async def test_another_ca(setup: Setup, tmp_path: Path) -> None:
    token = replace(await setup.token(), fingerprint=bytes(32))
    said = await refusal(token, tmp_path)
    assert "has no certificate of the CA that the token names (wrong CA)" in said
    public = replace(token, fingerprint=b"")
    assert "is of a CA that is not known here" in await refusal(public, tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hub_that_is_away(setup: Setup, tmp_path: Path) -> None:
    token = replace(await setup.token(), addresses=(f"tls://127.0.0.1:{ports.free()}",))
    said = await refusal(token, tmp_path)
    assert "cannot be reached" in said
    assert "does 'headrace up --share' run there" in said
    assert "The token stays good" in said


@pytest.mark.asyncio(loop_scope="module")
async def test_a_broker_without_tls(setup: Setup, tmp_path: Path) -> None:
    token = await setup.token()
    with brokers.start(tmp_path / "plain", 0) as plain:
        url = plain.url.replace("nats:", "tls:")
        assert "has no TLS" in await refusal(replace(token, addresses=(url,)), tmp_path / "a")


@pytest.mark.asyncio(loop_scope="module")
async def test_where_a_fabric_runs_nothing_joins_and_the_other_way_round(
    setup: Setup, tmp_path: Path
) -> None:
    said = await refusal(await setup.token(), setup.place)
    assert "runs a fabric of its own" in said
    assert await joining.join((await setup.token()).pack(), "worker", tmp_path)
    with pytest.raises(SettingsError, match="is that of the node"):
        plan.unused(tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_evicted_node_is_told_so(setup: Setup, tmp_path: Path) -> None:
    token = await setup.token()
    assert await joining.join(token.pack(), "worker", tmp_path)

    def evicted(node: Node | None) -> Node:
        assert node
        return replace(node, state="evicted")

    await setup.applied(await setup.store.change(token.name, evicted))
    with pytest.raises(BusError, match=r"was evicted, or whose key was replaced\. Join again"):
        await connected("worker", tmp_path)
    again = await setup.token(name=token.name)
    assert "was evicted" in await refusal(again, tmp_path / "other")
    other = await setup.token()
    node = await joining.join(other.pack(), "worker", tmp_path)  # its old key is dead
    assert node
    assert node.name == other.name
    (bus,) = await connected("worker", tmp_path)
    await bus.close()

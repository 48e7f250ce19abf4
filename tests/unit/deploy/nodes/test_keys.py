from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from deploy.nodes import exchange
from deploy.nodes.exchange import Answer, Ask
from deploy.nodes.keys import Keys
from schemas import nkeys
from schemas.bus import BusError
from schemas.identity import NotObeyed


class HubDouble:
    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.away = False
        self.code = ""

    async def ask(self, payload: bytes) -> bytes:
        self.asked.append(exchange.unpack_ask(payload))
        if self.away:
            raise BusError("away")
        return Answer(1.0, "gpu", "worker", self.code, "no").pack()


def seed(path: Path) -> Path:
    path.write_text(nkeys.make().seed + "\n")
    return path


def public(path: Path) -> str:
    return nkeys.read(path.read_text()).public


@pytest.fixture
def hub() -> HubDouble:
    return HubDouble()


@pytest.mark.parametrize("count", [1, 2])
async def test_new_keys_take_the_place_of_the_old_ones(
    tmp_path: Path, hub: HubDouble, count: int
) -> None:
    seeds = tuple(seed(tmp_path / f"{number}.seed") for number in range(count))
    before = [public(path) for path in seeds]
    await Keys(seeds, lambda name: None).rotate(hub.ask)
    after = [public(path) for path in seeds]
    assert not set(before) & set(after)
    assert [hub.asked[0].nkey, hub.asked[0].second_nkey][:count] == after
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in seeds)
    assert not list(tmp_path.glob("*.next"))


async def test_an_answer_that_is_lost_loses_no_key(tmp_path: Path, hub: HubDouble) -> None:
    path = seed(tmp_path / "seed")
    before, keys, hub.away = public(path), Keys((path,), lambda name: None), True
    with pytest.raises(BusError):
        await keys.rotate(hub.ask)
    assert public(path) == before
    hub.away = False
    await keys.rotate(hub.ask)
    assert [ask.nkey for ask in hub.asked] == [public(path)] * 2


async def test_what_the_hub_refuses_is_not_kept(tmp_path: Path, hub: HubDouble) -> None:
    path, hub.code = seed(tmp_path / "seed"), "broken"
    before = public(path)
    with pytest.raises(NotObeyed, match="no"):
        await Keys((path,), lambda name: None).rotate(hub.ask)
    assert public(path) == before
    assert not list(tmp_path.glob("*.next"))


async def test_of_two_processes_one_changes_them(tmp_path: Path, hub: HubDouble) -> None:
    path = seed(tmp_path / "seed")
    one, other = Keys((path,), lambda name: None), Keys((path,), lambda name: None)
    await one.rotate(hub.ask)
    await other.rotate(hub.ask)
    assert len(hub.asked) == 1
    await other.rotate(hub.ask)
    assert len(hub.asked) == 2


async def test_two_at_once_wait_for_each_other(tmp_path: Path, hub: HubDouble) -> None:
    path = seed(tmp_path / "seed")
    lock = os.open(tmp_path / "seed.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(NotObeyed):
        await Keys((path,), lambda name: None).rotate(hub.ask)
    os.close(lock)
    await Keys((path,), lambda name: None).rotate(hub.ask)


def test_a_name_is_kept_or_told_why_not(tmp_path: Path) -> None:
    kept: list[str] = []
    keys = Keys((seed(tmp_path / "seed"),), kept.append)
    keys.rename("new")
    assert kept == ["new"]

    def full(name: str) -> None:
        raise OSError("no space left")

    with pytest.raises(NotObeyed, match="no space"):
        Keys((tmp_path / "seed",), full).rename("new")

from __future__ import annotations

import asyncio

import pytest

from ingress import own_keys
from ingress.own_keys import OwnKeys
from schemas import nkeys, subjects
from schemas.bus import Message
from schemas.identity import Ask, NotObeyed
from schemas.registry import Node
from tests.unit import fakes
from tests.unit.fakes import FakeBus

KEY = nkeys.make().public


class Keeper:
    public = KEY

    def __init__(self) -> None:
        self.refuses = 0

    async def rotate(self, ask: Ask) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NotObeyed("no")
        assert await ask(b"new key") == b"taken"

    def rename(self, name: str) -> None: ...


class Renewed(FakeBus):
    def __init__(self) -> None:
        super().__init__()
        self.renewals = 0
        self.asked: list[str] = []
        self.answer = self._answer

    async def renew(self) -> None:
        self.renewals += 1

    async def _answer(self, subject: str, payload: bytes) -> Message:
        self.asked.append(subject)
        return fakes.message("reply", b"taken")


@pytest.mark.parametrize("refuses", [0, 1])
async def test_it_changes_its_keys_once_when_its_record_says_so(
    monkeypatch: pytest.MonkeyPatch, refuses: int
) -> None:
    monkeypatch.setattr(own_keys, "_AGAIN", 0.0)
    keeper, bus, vault = Keeper(), Renewed(), Renewed()
    keeper.refuses = refuses
    own = OwnKeys(keeper, bus, vault)
    task = asyncio.create_task(own.run())
    mine = Node("edge", "ingress", nkey=KEY, rotate=5.0)
    for node in (Node("other", nkey=nkeys.make().public, rotate=9.0), mine, mine):
        own.hear(node)
        await fakes.turns(20)
    own.hear(mine)
    await fakes.turns(20)
    assert bus.asked == [subjects.rotation("edge")]
    assert (bus.renewals, vault.renewals) == (1, 1)
    task.cancel()

"""The books, copied and put back, and what is said when a file of theirs is damaged."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from deploy import backup as copies
from deploy import credits, home
from deploy import keys as stored
from deploy.configure import CommandFailed, Where
from deploy.nats import broker as brokers
from deploy.nats import certificates
from deploy.nodes.store import NodeStore
from deploy.survey import connected
from fallback.credits import witness
from fallback.credits.faults import LedgerError
from fallback.credits.journal import Journal
from fallback.credits.ledger import Ledger
from ingress.keys import changes, secret
from schemas import nkeys, subjects, topology
from schemas.bus import Bus, Message
from schemas.jetstream import streams
from schemas.registry import Node
from schemas.settings import Jobs

GRANTS = 20
SETTINGS = '[[keys]]\nname = "ä"\naccount = "a"\nsecret = "sk-0123456789abcdef"\n'


@asynccontextmanager
async def login(data: Path, role: str = "ledger") -> AsyncIterator[Bus]:
    async with connected(Where(data).local(role), "test") as bus:
        yield bus


async def balance(data: Path) -> int:
    async with login(data) as bus:
        await witness.check(bus, 1)
        ledger = Ledger(bus, replicas=1)
        await ledger.open()
        found = await ledger.balance("a")
        await ledger.close()
        return found.available


async def fill(data: Path) -> None:
    """Grant credits, and count something that a worker served."""
    async with login(data) as bus:
        await witness.check(bus, 1)
        ledger = Ledger(bus, replicas=1)
        await ledger.open()
        for number in range(GRANTS):
            await ledger.grant("a", 1, f"grant {number}")
        await ledger.close()
        await witness.mark(bus)
    async with login(data, "admin") as bus:
        await streams.ensure(bus, topology.streams(Jobs(), 1))
        await bus.store(subjects.usage("in-1", 0), {}, b"[]")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a broker that was stopped, with a backup beside its store."""
    data = tmp_path_factory.mktemp("filled")
    (data / "headrace.toml").write_text(SETTINGS)
    home.own_key(data)
    with brokers.start(home.broker_store(data), 0, 0):
        await fill(data)
        await copies.backup(Where(data, data / "headrace.toml"), data / "books")
    return data


async def test_a_copy_can_be_put_back_elsewhere(filled: Path, tmp_path: Path) -> None:
    with brokers.start(home.broker_store(tmp_path), 0, 0):
        await copies.restore(Where(tmp_path), filled / "books", overwrite=False)
        assert await balance(tmp_path) == GRANTS
        with pytest.raises(copies.Refused, match="CREDITS has 20 messages: name --overwrite"):
            await copies.restore(Where(tmp_path), filled / "books", overwrite=False)
        async with login(tmp_path) as bus:
            ledger = Ledger(bus, replicas=1)
            await ledger.open()
            await ledger.grant("a", 5, "behind the copy")
            with pytest.raises(copies.Refused, match="a fallback follows CREDITS"):
                await copies.restore(Where(tmp_path), filled / "books", overwrite=True)
            await ledger.close()
        await copies.restore(Where(tmp_path), filled / "books", overwrite=True)
        assert await balance(tmp_path) == GRANTS
        async with login(tmp_path, "admin") as bus:
            assert (await streams.info(bus, subjects.USAGE_STREAM))["state"]["messages"] == 1


async def test_keys_of_the_store_are_in_the_copy_and_replace_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = Where(tmp_path / "one"), Where(tmp_path / "other")
    for where in (one, other):
        where.data.mkdir()
    with brokers.start(home.broker_store(one.data), 0, 0):
        async with stored.opened(one) as store:
            kept = await changes.create(store, "alice", {"account": "lab"})
            await changes.set_account(store, "lab", {"weight": 2})
        await copies.backup(one, tmp_path / "books")
        with pytest.raises(CommandFailed, match="is a folder"):
            await copies.backup(one, tmp_path)
        with pytest.raises(CommandFailed, match="there is no folder"):
            await copies.backup(one, tmp_path / "none" / "books")
    with brokers.start(home.broker_store(other.data), 0, 0):
        async with stored.opened(other) as store:
            await changes.create(store, "bob", {})
            await changes.set_account(store, "old", {"weight": 3})
        with pytest.raises(copies.Refused, match="KEYS has 1 keys: name --overwrite"):
            await copies.restore(other, tmp_path / "books", overwrite=False)
        await copies.restore(other, tmp_path / "books", overwrite=True)
        async with stored.opened(other) as store:
            records = {record.name: record for record in await store.keys()}
            assert [each.weight for each in await store.accounts()] == [2.0, None]
            assert records["alice"] == kept.record
            assert records["bob"].revoked
            digest = secret.digest(store.pepper, kept.secret).hex()
            assert records["alice"].secrets[0].digest == digest
    assert kept.secret not in capsys.readouterr().out


async def test_nodes_and_the_ca_that_they_trust_are_in_the_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    kept = Node("gpu", nkey=nkeys.make().public)
    with brokers.start(home.broker_store(one), 0, 0):
        certificates.obtain(home.broker_store(one), ["localhost"])
        async with login(one, "admin") as bus:
            store = NodeStore(bus)
            await store.open()
            await store.write(kept, 0)
        await copies.backup(Where(one), tmp_path / "books")
    with brokers.start(home.broker_store(other), 0, 0):
        async with login(other, "admin") as bus:
            store = NodeStore(bus)
            await store.open()
            await store.write(Node("old", nkey=nkeys.make().public), 0)
            with pytest.raises(copies.Refused, match="NODES has 1 nodes: name --overwrite"):
                await copies.restore(Where(other), tmp_path / "books", overwrite=False)
            await copies.restore(Where(other), tmp_path / "books", overwrite=True)
            found = await store.everything()
    assert found == {subjects.node("gpu"): kept.pack()}
    for name in (certificates.CA, certificates.CA_KEY):
        there, here = (home.broker_store(each) / name for each in (one, other))
        assert there.read_text() == here.read_text()
        assert stat.S_IMODE(here.stat().st_mode) == 0o600
        assert there.read_text() not in capsys.readouterr().out


async def test_key_and_settings_are_in_the_copy_and_come_back(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stat.S_IMODE((filled / "books").stat().st_mode) == 0o600
    there = Where(tmp_path, tmp_path / "headrace.toml")
    with brokers.start(home.broker_store(tmp_path), 0, 0):
        other = home.own_key(tmp_path)
        with pytest.raises(copies.Refused, match=r"key: .* is another one: name --overwrite"):
            await copies.restore(there, filled / "books", overwrite=False)
        assert home.own_key(tmp_path) == other
        (tmp_path / "key").unlink()
        await copies.restore(there, filled / "books", overwrite=False)
    assert home.own_key(tmp_path) == home.own_key(filled)
    assert (tmp_path / "headrace.toml").read_text() == SETTINGS
    for name in ("key", "headrace.toml"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "sk-" not in capsys.readouterr().out


@pytest.mark.parametrize("at", [0, 40, 2000, -70, -1])
async def test_a_damaged_copy_is_refused(filled: Path, tmp_path: Path, at: int) -> None:
    raw = bytearray((filled / "books").read_bytes())
    raw[at] ^= 1
    (tmp_path / "books").write_bytes(raw)
    with pytest.raises(copies.Refused):
        copies.read(tmp_path / "books")


@pytest.mark.parametrize("size", [0, 10, 1000, -1])
async def test_a_part_of_a_copy_is_refused(filled: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "books").write_bytes((filled / "books").read_bytes()[:size])
    with pytest.raises(copies.Refused):
        copies.read(tmp_path / "books")


def lose_the_end(place: Path) -> None:
    """Flip a bit in the middle of the journal."""
    (block,) = place.rglob("CREDITS/msgs/1.blk")
    raw = bytearray(block.read_bytes())
    raw[raw.index(b"grant 10")] ^= 4
    block.write_bytes(raw)
    block.with_name("index.db").unlink(missing_ok=True)


def withhold_after(seq: int, patch: pytest.MonkeyPatch) -> None:
    """The ledger's own reader gets no entry behind `seq`."""
    read = Journal._read

    def kept(journal: Journal, message: Message) -> None:
        if subjects.place_of(message.reply)[0] <= seq:
            read(journal, message)

    patch.setattr(Journal, "_read", kept)


@pytest.mark.parametrize("read", [True, False], ids=["read", "only confirmed"])
async def test_a_journal_that_loses_its_end_while_it_is_used_is_used_no_more(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: bool
) -> None:
    """Even if the last mark was before that, and if the broker goes between its answer and the
    entry that it sends to all; whoever comes later knows."""
    if not read:
        withhold_after(GRANTS, monkeypatch)
    place = home.broker_store(tmp_path)
    shutil.copytree(home.broker_store(filled), place)
    with brokers.start(place, 0, 0) as broker:
        async with login(tmp_path) as bus:
            ledger = Ledger(bus, replicas=1)
            await ledger.open()
            await ledger.grant("a", 1, "behind the mark")
            if read:
                await ledger.sweep()  # it waits for the newest entry
            back = asyncio.Event()
            bus.on_reconnect(back.set)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(lose_the_end, place)
            await asyncio.to_thread(broker.restart)
            await back.wait()
            cut = "ends at entry 10, but entry 21 was written"
            with pytest.raises(LedgerError, match=cut):
                await ledger.grant("a", 5)
            with pytest.raises(LedgerError, match=cut):
                await ledger.sweep()
            assert (await ledger.balance("a")).available == 10, "nothing was added to it"
            await ledger.close()
        with pytest.raises(witness.JournalCut, match="but entry 21 was written"):
            await balance(tmp_path)


async def test_a_journal_that_lost_its_end_is_not_used_before_somebody_says_so(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker drops a message with a flipped bit and all behind it, and says nothing, if it has
    to read the file anew as after a power cut."""
    place = home.broker_store(tmp_path)
    shutil.copytree(home.broker_store(filled), place)
    lose_the_end(place)
    with brokers.start(place, 0, 0):
        with pytest.raises(witness.JournalCut, match="ends at entry 10, but entry 20 was written"):
            await balance(tmp_path)
        await credits.accounts(Where(tmp_path)).accept()
        assert "entries 11 to 20 are lost" in capsys.readouterr().out
        assert await balance(tmp_path) == 10

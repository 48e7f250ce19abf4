"""What the processes of one ingress ask of each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingress.request.picture_store import PictureStore
from ingress.siblings import SIGNED_BY, Siblings, part
from schemas.settings import Ingress, Settings, SettingsError

CONFIG = Settings.model_validate({"ingress": {"processes": 3}})


class Running:
    """Two of three: the third is about to start."""

    def __init__(self, folder: Path) -> None:
        (folder / SIGNED_BY).write_bytes(b"s" * 32)
        self.all = [Siblings(folder / f"{number}.sock", CONFIG) for number in (1, 2)]
        self.stores = [
            PictureStore(1000, 60, lambda: 1_700_000_000.0, each.secret, f"{each.number}-")
            for each in self.all
        ]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    made = Running(tmp_path)
    servers = [await each.open(store) for each, store in zip(made.all, made.stores, strict=True)]
    yield made
    for server in servers:
        server.close()


async def test_each_has_the_metrics_of_all_that_answer(running: Running) -> None:
    for each in running.all:
        page = (await each.metrics()).decode()
        assert 'process="1"' in page
        assert 'process="2"' in page
        assert 'process="3"' not in page


async def test_a_picture_is_shown_by_each_of_them(running: Running) -> None:
    first, second = running.all
    address = running.stores[0].put(b"\x00pic\nture", "image/png")
    name, _, query = address.rpartition("/")[2].partition("?")
    expires, signature = (each.partition("=")[2] for each in query.split("&"))
    assert running.stores[1].get(name, expires, signature) is None  # signed, and kept elsewhere
    found = await second.picture(name)
    assert found == running.stores[0].find(name)
    assert await first.picture(name) is None  # its own, and so it has looked already
    assert await second.picture("1-gone.png") is None


@pytest.mark.parametrize(
    "name", ["x.png", "9-x.png", "3-x.png", "../1-x.png", "-.png", "1-\udcff\n"]
)
async def test_a_picture_that_no_process_can_have(running: Running, name: str) -> None:
    assert await running.all[1].picture(name) is None


async def test_nonsense_is_not_answered(running: Running, tmp_path: Path) -> None:
    for nonsense in (b"", b"what\n", b"picture \xff\n", b"x" * 5000 + b"\n"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "1.sock")
        writer.write(nonsense)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):  # it did not read all of it
            assert await reader.read() == b""
        writer.close()
    assert b'process="1"' in await running.all[1].metrics()


async def test_one_that_was_killed_is_followed_by_another(tmp_path: Path) -> None:
    (tmp_path / SIGNED_BY).write_bytes(b"s" * 32)
    (tmp_path / "1.sock").touch()
    one = Siblings(tmp_path / "1.sock", CONFIG)
    server = await one.open(PictureStore(1, 1, lambda: 0.0))
    assert b'process="1"' in await one.metrics()
    server.close()


def test_each_has_its_part_of_what_is_bounded_in_all() -> None:
    edge = Ingress(processes=3, body_memory=2**20, max_connections=100, failed_keys=1)
    found = part(edge)
    assert (found.max_connections, found.failed_keys) == (34, 1)
    assert found.body_memory == 2**20  # not less than one may have
    assert found.body_files == -(-edge.body_files // 3)
    assert found.connections_of_one == edge.connections_of_one
    Ingress.model_validate(found.model_dump())
    one = Ingress()
    assert part(one) == one


def test_who_is_told_by_hand_to_be_one_of_several_learns_why_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--of .*/1\.sock: signed-by beside it: No such file"):
        Siblings(tmp_path / "1.sock", CONFIG)
    with pytest.raises(SettingsError, match="Leave --of out"):
        Siblings(Path("with\0null/1.sock"), CONFIG)

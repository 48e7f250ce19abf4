"""The parent of several processes that are one ingress."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import several
from deploy.configure import Where
from deploy.several import Several
from ingress.http.listeners import ListenFailed
from ingress.siblings import SIGNED_BY
from schemas.settings import Ingress
from workers.process.program import Command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one port needs Linux")

EDGE = Ingress(port=0, processes=2, drain=1)
NOTES = """
import os, pathlib, signal, socket, sys
own, notes = map(pathlib.Path, sys.argv[1:])
def note(word):
    with notes.open("a") as file:
        file.write(f"{own.stem} {word} {os.getpid()}\\n")
signal.signal(signal.SIGHUP, lambda *_: note("told"))
listener = socket.socket(socket.AF_UNIX)
own.unlink(missing_ok=True)
listener.bind(str(own))
note("listens")
while True:
    signal.pause()
"""


class Family:
    """Programs in the place of ingresses, and what they note."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        notes.touch()
        self.parent = Several(EDGE, self._command)
        self.run = asyncio.create_task(self.parent.run())

    def _command(self, port: int, own: Path) -> Command:
        return Command((sys.executable, "-c", NOTES, str(own), str(self._notes)), is_ours=True)

    async def noted(self, *words: str) -> list[int]:
        """The pids of those that noted these, such as ``1 listens``, once all did."""
        async with asyncio.timeout(60):
            while True:
                lines = self._notes.read_text().splitlines()
                found = {line.rpartition(" ")[0]: int(line.split()[-1]) for line in lines}
                if all(word in found for word in words):
                    return [found[word] for word in words]
                assert not self.run.done()
                await asyncio.sleep(0.02)

    def forget(self) -> None:
        self._notes.write_text("")

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            await self.run


@pytest.fixture
def family(tmp_path: Path) -> Callable[[], Family]:
    return lambda: Family(tmp_path / "notes")


async def test_one_that_is_killed_is_started_again_and_all_end_with_it(
    family: Callable[[], Family],
) -> None:
    made = family()
    first, second = await made.noted("1 listens", "2 listens")
    made.forget()
    os.kill(first, signal.SIGKILL)
    (again,) = await made.noted("1 listens")
    assert again != first
    await made.stop()
    for pid in (again, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_all_are_told_to_read_their_settings(family: Callable[[], Family]) -> None:
    made = family()
    await made.noted("1 listens", "2 listens")
    os.kill(os.getpid(), signal.SIGHUP)
    await made.noted("1 told", "2 told")
    await made.stop()


async def test_what_a_killed_parent_left_behind_is_removed(
    family: Callable[[], Family], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(several, "_place", lambda: str(tmp_path))
    names = "headrace-dead", "headrace-lives", "headrace-begins", "others"
    dead, lives, begins, others = (tmp_path / name for name in names)
    for folder in (dead, lives, begins, others):
        folder.mkdir()
        (folder / ("new" if folder is begins else SIGNED_BY)).touch()
    with (lives / SIGNED_BY).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        made = family()
        await made.noted("1 listens", "2 listens")
        (own,) = {*tmp_path.glob("headrace-*")} - {lives, begins}
        several._sweep(tmp_path)  # as the next one does
        assert own.exists()
        assert lives.exists()
        assert begins.exists()
        assert others.exists()
        await made.stop()
    assert not own.exists()


async def test_one_that_cannot_start_ends_all() -> None:
    def make(port: int, own: Path) -> Command:
        return Command(("sh", "-c", "exit 3" if own.stem == "2" else "sleep 60"), is_ours=True)

    with pytest.raises(ListenFailed, match="does not start: exit code 3"):
        await Several(EDGE, make).run()


async def test_a_port_that_another_has_is_found_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        edge = EDGE.model_copy(update={"port": taken.getsockname()[1]})
        with pytest.raises(ListenFailed, match="cannot listen"):
            await Several(edge, lambda port, own: Command(("true",))).run()


async def test_elsewhere_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ListenFailed, match=r"need Linux.*leave --processes"):
        await Several(EDGE, lambda port, own: Command(("true",))).run()


def test_the_others_are_told_what_this_one_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_JOIN", "hrj1_once")
    monkeypatch.setenv("HEADRACE_INGRESS__DRAIN", "3")
    where = Where(tmp_path, tmp_path / "x.toml", "nats://ingress:secret@hub:4222")
    found = several.of(EDGE, where, "debug", None)._make(1234, tmp_path / "1.sock")
    line = " ".join(found.args)
    assert f"--data {tmp_path} --config {tmp_path}/x.toml --log-level debug" in line
    assert f"--port 1234 --processes 2 --of {tmp_path}/1.sock" in line
    assert "secret" not in line
    assert "--join" not in line
    assert found.env == {
        "HEADRACE_INGRESS__DRAIN": "3",
        "HEADRACE_NATS__URL": "nats://hub:4222",
        "HEADRACE_NATS__USER": "ingress",
        "HEADRACE_NATS__PASSWORD": "secret",
    }


def test_folders_of_long_names_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 90)
    assert several._place() == "/tmp"

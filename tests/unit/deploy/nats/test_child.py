"""A child that ends with its parent, and not before."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.nats.child import Child
from workers.process.die_with_parent import NOT_STARTED

CAT = shutil.which("cat") or "/bin/cat"
SH = shutil.which("sh") or "/bin/sh"
PATIENCE = 10.0


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """`cat` of it runs for ever: nobody writes, and the pipe is never closed."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    yield path
    os.close(held)


def test_stops_at_sigterm(tmp_path: Path, fifo: Path) -> None:
    child = Child([CAT, str(fifo)], words=tmp_path / "words")
    assert child.code is None
    child.stop(PATIENCE)
    assert child.code == -signal.SIGTERM
    child.stop(PATIENCE)  # twice is fine
    child.kill()
    assert child.code == -signal.SIGTERM


def test_kills_what_does_not_stop(tmp_path: Path, fifo: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"trap '' TERM; echo > {ready}; while :; do read _ < {fifo}; done"
    child = Child([SH, "-c", script], words=tmp_path / "words")
    assert ready.read_text() == "\n"
    child.stop(0.05)
    assert child.code == -signal.SIGKILL


def test_outlives_the_thread_that_asked_for_it(tmp_path: Path, fifo: Path) -> None:
    made: list[Child] = []
    asker = threading.Thread(
        target=lambda: made.append(Child([CAT, str(fifo)], words=tmp_path / "words"))
    )
    asker.start()
    asker.join()
    assert not made[0].exited.wait(0.2)
    made[0].kill()
    assert made[0].code == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_dies_with_a_killed_parent(tmp_path: Path, fifo: Path) -> None:
    program = (
        "import sys, pathlib\nfrom deploy.nats.child import Child\n"
        "child = Child(sys.argv[2:], words=pathlib.Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\nsys.stdin.read()"
    )
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"echo > {ready}; exec {CAT} {fifo}"
    command = [sys.executable, "-c", program, str(tmp_path / "words"), SH, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        handle = os.pidfd_open(int(parent.stdout.readline()))
        assert ready.read_text() == "\n"
        parent.kill()
    gone, _, _ = select.select([handle], [], [], PATIENCE)
    os.close(handle)
    assert gone == [handle]


def test_its_words_are_kept_from_the_last_start_on(tmp_path: Path) -> None:
    words = tmp_path / "words"
    for said in ("first", "second"):
        child = Child([SH, "-c", f"echo {said}; echo and more >&2; exit 4"], words=words)
        assert child.exited.wait(PATIENCE)
        assert child.code == 4
        assert words.read_text() == f"{said}\nand more\n"


def test_our_variables_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_NATS__PASSWORD", "hunter2")
    monkeypatch.setenv("OTHER", "passes")
    child = Child([shutil.which("env") or "/usr/bin/env"], words=tmp_path / "words")
    assert child.exited.wait(PATIENCE)
    assert "OTHER=passes" in (tmp_path / "words").read_text()
    assert "hunter2" not in (tmp_path / "words").read_text()


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    child = Child([str(tmp_path / "nothing")], words=tmp_path / "words")
    assert child.exited.wait(PATIENCE)
    assert child.code == NOT_STARTED
    assert "No such file" in (tmp_path / "words").read_text()


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        Child([CAT], words=tmp_path / "words")


def test_its_own_session(tmp_path: Path, fifo: Path) -> None:
    child = Child([CAT, str(fifo)], words=tmp_path / "words")
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    child.kill()

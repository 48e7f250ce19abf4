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

from deploy.nats import child
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
    cat = child.spawn([CAT, str(fifo)], words=tmp_path / "words")
    assert cat.poll() is None
    child.stop(cat, PATIENCE)
    assert cat.returncode == -signal.SIGTERM
    child.stop(cat, PATIENCE)  # twice is fine
    child.kill(cat)
    assert cat.returncode == -signal.SIGTERM


def test_kills_what_does_not_stop(tmp_path: Path, fifo: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"trap '' TERM; echo > {ready}; while :; do read _ < {fifo}; done"
    deaf = child.spawn([SH, "-c", script], words=tmp_path / "words")
    assert ready.read_text() == "\n"
    child.stop(deaf, 0.05)
    assert deaf.returncode == -signal.SIGKILL


def test_outlives_the_thread_that_asked_for_it(tmp_path: Path, fifo: Path) -> None:
    made: list[Child] = []
    asker = threading.Thread(
        target=lambda: made.append(child.spawn([CAT, str(fifo)], words=tmp_path / "words"))
    )
    asker.start()
    asker.join()
    with pytest.raises(subprocess.TimeoutExpired):
        made[0].wait(0.2)
    child.kill(made[0])
    assert made[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_dies_with_a_killed_parent(tmp_path: Path, fifo: Path) -> None:
    program = (
        "import sys, pathlib\nfrom deploy.nats.child import spawn\n"
        "child = spawn(sys.argv[2:], words=pathlib.Path(sys.argv[1]))\n"
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
        shell = child.spawn([SH, "-c", f"echo {said}; echo and more >&2; exit 4"], words=words)
        assert shell.wait(PATIENCE) == 4
        assert words.read_text() == f"{said}\nand more\n"


def test_our_variables_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_NATS__PASSWORD", "hunter2")
    monkeypatch.setenv("OTHER", "passes")
    env = child.spawn([shutil.which("env") or "/usr/bin/env"], words=tmp_path / "words")
    assert env.wait(PATIENCE) == 0
    assert "OTHER=passes" in (tmp_path / "words").read_text()
    assert "hunter2" not in (tmp_path / "words").read_text()


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    nothing = child.spawn([str(tmp_path / "nothing")], words=tmp_path / "words")
    assert nothing.wait(PATIENCE) == NOT_STARTED
    assert "No such file" in (tmp_path / "words").read_text()


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        child.spawn([CAT], words=tmp_path / "words")


def test_its_own_session(tmp_path: Path, fifo: Path) -> None:
    cat = child.spawn([CAT, str(fifo)], words=tmp_path / "words")
    assert os.getsid(cat.pid) == cat.pid != os.getsid(0)
    child.kill(cat)

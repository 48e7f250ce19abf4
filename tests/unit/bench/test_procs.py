from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.bench import procs

ENDS = "import sys; print('said before the end', file=sys.stderr); sys.exit(3)"
BUSY = "print('up', flush=True)\nwhile True: pass"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\nsignal.pause()"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_is_ready_when_it_has_said_so(tmp_path: Path) -> None:
    with procs.running("one", python(BUSY), tmp_path / "log", announces=True) as process:
        assert process.line(20) == "up"
        assert procs.rss_bytes(process.pid) > 2**20
        while procs.cpu_seconds(process.pid) < 0.05:
            assert process.popen.poll() is None
    assert process.popen.returncode is not None


def test_one_that_ends_is_quoted(tmp_path: Path) -> None:
    with (
        procs.running("two", python(ENDS), tmp_path / "log", announces=True) as process,
        pytest.raises(procs.NotReady, match=r"(?s)two: .*said before the end"),
    ):
        process.line(20)


def test_waiting_for_http_ends_with_the_process(tmp_path: Path) -> None:
    with (
        procs.running("three", python(ENDS), tmp_path / "log") as process,
        pytest.raises(procs.NotReady, match=r"(?s)ended with 3.*said before the end"),
    ):
        process.wait_http("http://127.0.0.1:9/", bool, 20)


def test_waiting_is_bounded(tmp_path: Path) -> None:
    with procs.running("four", python(BUSY), tmp_path / "log", announces=True) as process:
        process.line(20)
        with pytest.raises(procs.NotReady, match=r"no line within 0.05 s"):
            process.line(0.05)
        with pytest.raises(procs.NotReady, match=r"not ready within 0.05 s"):
            process.wait_http("http://127.0.0.1:9/", bool, 0.05)


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = procs.Process("five", python(STUBBORN), tmp_path / "log", announces=True)
    process.line(20)
    process.stop(grace=0.05)
    assert process.popen.returncode == -9


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = (
        "import sys, pathlib\nfrom tests.bench import procs\n"
        f"child = procs.Process('child', [sys.executable, '-c', {BUSY!r}], "
        f"pathlib.Path({str(tmp_path / 'child')!r}), True)\n"
        "child.line(20)\nprint(child.pid, flush=True)\nchild.popen.wait()"
    )
    with procs.running("parent", python(parent), tmp_path / "log", announces=True) as process:
        child = os.pidfd_open(int(process.line(20)))
        process.popen.kill()
    # A pidfd is readable once its process has ended.
    ended = select.select([child], [], [], 10)[0]
    os.close(child)
    assert ended


def test_settings_of_headrace_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LOG__LEVEL", "debug")
    monkeypatch.setenv("ELSE", "1")
    assert "HEADRACE_LOG__LEVEL" not in procs.environment()
    assert procs.environment()["ELSE"] == "1"


def test_what_the_kernel_tells_of_ourselves() -> None:
    us = {"us": os.getpid()}
    assert procs.cpu_of(us)["us"] == pytest.approx(sum(os.times()[:2]), abs=0.5)
    with pytest.raises(ProcessLookupError):
        procs.cpu_seconds(2**22 + 1)


def test_the_clock_of_a_process_is_a_fine_one() -> None:
    """A tick of the kernel's other clock is 10 ms. The least of several steps, as a collection of
    garbage and other threads count, too."""

    def step() -> float:
        before = procs.cpu_seconds(os.getpid())
        while (took := procs.cpu_seconds(os.getpid()) - before) == 0:
            pass
        return took

    assert min(step() for _ in range(100)) < 0.01


def test_threads_that_have_ended_count() -> None:
    def work() -> None:
        while time.thread_time() < 0.05:
            pass

    before = procs.cpu_seconds(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert procs.cpu_seconds(os.getpid()) - before >= 0.05

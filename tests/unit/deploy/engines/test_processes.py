"""What a process is, by its command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.engines import processes
from deploy.engines.processes import Process
from workers.process import ports

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PYTHON = ("/venv/bin/python3", "-P", "-m", "deploy")
LISTENS = """
import signal, socket, sys
signal.signal(signal.SIGHUP, lambda *_: None)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def of(*words: str) -> Process:
    return Process(1, 0, words, "/work")


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (("/opt/llama-server", "-m", "x.gguf"), "llama-server"),
        (("ollama", "serve"), "ollama"),
        (("/venv/bin/python3", "/venv/bin/vllm", "serve", "qwen"), "vllm"),
        (("python3", "-m", "vllm.entrypoints.openai.api_server"), "vllm"),
        (("bash", "/usr/local/bin/sd-server"), "sd-server"),
        (("vim", "llama-server"), ""),
        (("grep", "-r", "ollama"), ""),
        (("python3", "-m", "http.server"), ""),
    ],
)
def test_programs_of_engines(words: tuple[str, ...], program: str) -> None:
    assert of(*words).program == program


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ((*PYTHON, "worker", "--data", "x"), "worker"),
        (("/venv/bin/python3", "/venv/bin/headrace", "up"), "up"),
        (("headrace", "ingress"), "ingress"),
        (("headrace", "engine", "list"), ""),
        (("kubectl", "deploy", "worker"), ""),
        (("worker",), ""),
        ((), ""),
    ],
)
def test_own_processes(words: tuple[str, ...], role: str) -> None:
    assert of(*words).role == role


@pytest.mark.parametrize(
    ("words", "config"),
    [
        ((*PYTHON, "worker", "--config", "/etc/h.toml"), "/etc/h.toml"),
        ((*PYTHON, "worker", "-c", "h.toml"), "/work/h.toml"),
        ((*PYTHON, "worker", "--config=../h.toml"), "/h.toml"),
        ((*PYTHON, "worker"), None),
    ],
)
def test_the_settings_of_a_process(words: tuple[str, ...], config: str | None) -> None:
    assert of(*words).config == (Path(config) if config else None)


def test_the_settings_that_its_environment_names() -> None:
    named = Process(1, 0, (*PYTHON, "worker"), "/work", False, {"HEADRACE_CONFIG": "h.toml"})
    assert named.config == Path("/work/h.toml")


def test_a_workers_own_engines_go_before_the_file() -> None:
    assert of(*PYTHON, "worker", "--engine", "x").names_engines
    assert of(*PYTHON, "worker", "--engine=x").names_engines
    assert not of(*PYTHON, "worker", "--engines").names_engines


def test_the_workers_of_a_file() -> None:
    ours, other = (of(*PYTHON, "worker", "--config", f"/{name}") for name in ("a", "b"))
    ingress = of(*PYTHON, "ingress", "--config", "/a")
    assert processes.workers(Path("/a"), {1: ours, 2: other, 3: ingress}) == [ours]


def test_those_above() -> None:
    known = {pid: Process(pid, parent, ("x",)) for pid, parent in ((5, 4), (4, 3), (3, 2), (9, 9))}
    assert [each.pid for each in processes.above(5, known)] == [4, 3]
    assert list(processes.above(9, known)) == []
    assert list(processes.above(77, known)) == []


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[int, int]]:
    """A program that listens, and catches SIGHUP: its pid and port. `words`: the end of its command
    line."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LISTENS, *words]
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True) as program:
        assert program.stdout
        assert program.stdin
        yield program.pid, int(program.stdout.readline())
        program.stdin.close()


def test_a_kernel_that_does_not_say_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "7"
    place.mkdir()
    (place / "cmdline").write_bytes(b"headrace\0worker\0")
    (place / "status").write_text("Name:\theadrace\n")
    (place / "environ").write_bytes(b"")
    (place / "cwd").symlink_to(tmp_path)
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert processes.own()[7].takes_hangup is False


def test_real_ones(tmp_path: Path) -> None:
    with running(tmp_path, "headrace", "worker", "--config", "h.toml") as (pid, port):
        known = processes.own()
        found = known[pid]
        assert (found.role, found.parent, found.takes_hangup) == ("worker", os.getpid(), True)
        assert found.config == tmp_path / "h.toml"
        listeners = {"0": ("127.0.0.1", 1), **ports.listeners()}
        assert processes.addresses(pid, listeners) == [("127.0.0.1", port)]
        assert known[os.getpid()] in processes.above(pid, known)
        os.kill(pid, signal.SIGHUP)  # it goes on: the block ends it by its input
    assert processes.addresses(pid, listeners) == []
    assert pid not in processes.own()

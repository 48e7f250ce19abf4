"""``headrace`` processes as forks of one that has imported all of it.

A new interpreter takes a second of CPU time to import what a process needs, and hundreds of tests
start some. Each fork is a process of its own: own memory, own signals, killed as any other. That
``headrace`` starts from nothing is shown by the tests of ``headrace up`` and its commands.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import clock, gate, held_loop
from workers.process import die_with_parent

IMPORTED = (
    "deploy.cli",
    "deploy.compat.endpoint",
    "fallback.node",
    "ingress.server",
    "uvloop",
    "workers.node",
)

ROOT = Path(__file__).parents[1]
_ENVIRONMENT = dict(os.environ)
"""Before a test changes it for one process."""


class Fork:
    """One of them, with what tests ask of an ``asyncio.subprocess.Process``."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader, end: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._end = asyncio.create_task(self._read(end))

    async def _read(self, end: asyncio.StreamReader) -> None:
        self.returncode = int(await end.readline())
        await end.read()

    async def wait(self) -> int:
        await asyncio.shield(self._end)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


async def run(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command that ends by itself."""
    said, stdout = os.pipe()
    try:
        fork = await start(arguments, stdout=stdout)
    finally:
        os.close(stdout)
    reader = await _reader(said)
    out, err = await asyncio.gather(reader.read(), fork.stderr.read())
    return await fork.wait(), out.decode(), err.decode()


async def start(
    arguments: Sequence[str], env: Mapping[str, str] | None = None, stdout: int = 1
) -> Fork:
    """``headrace ARGUMENTS`` in the folder that is ours now, with this environment, or ours without
    settings of the machine that the tests run on."""
    env = env or {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    words, stderr = os.pipe()
    end, status = os.pipe()
    request = {"arguments": list(arguments), "env": dict(env), "folder": os.getcwd()}
    message = json.dumps(request).encode() + b"\n"
    try:
        socket.send_fds(_parent(), [message], [stdout, stderr, status])
    finally:
        os.close(stderr)
        os.close(status)
    reader = await _reader(end)
    return Fork(int(await reader.readline()), await _reader(words), reader)


async def started_anew(arguments: Sequence[str]) -> asyncio.subprocess.Process:
    """The same, no fork: it ends with this process all the same."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    command = die_with_parent.wrap([sys.executable, "-m", "deploy", *arguments])
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=env, stderr=pipe, limit=2**24)


async def _reader(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    return reader


@functools.cache
def _parent() -> socket.socket:
    """The way to the process that forks, which is started with the first of them."""
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", "tests.forks", str(its.fileno())]
    process = subprocess.Popen(command, pass_fds=[its.fileno()], cwd=ROOT, env=_ENVIRONMENT)
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class Parent:
    """What forks, as long as somebody holds the other end of `control`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ended, self._wakes = socket.socketpair()
        self._children: dict[int, int] = {}
        """Where to say how each process ended."""
        self._wakes.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)

    def serve(self) -> list[str] | None:
        """The arguments of a process, in that process; None here, once nobody asks any more."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._ended in ready:
                    self._ended.recv(4096)
                    self._reap()
                if self._control not in ready:
                    continue
                request, passed = self._request()
                if not request:
                    self._end()
                    return None
                if not self._fork(*passed):
                    break
        return self._become(json.loads(request), passed)

    def _request(self) -> tuple[bytes, list[int]]:
        request, passed, _, _ = socket.recv_fds(self._control, 2**16, 3)
        while request and not request.endswith(b"\n"):
            request += self._control.recv(2**16)
        return request, passed

    def _fork(self, stdout: int, stderr: int, status: int) -> int:
        if pid := os.fork():
            os.close(stdout)
            os.close(stderr)
            self._children[pid] = status
            os.write(status, b"%d\n" % pid)
        return pid

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                status = self._children.pop(found[0])
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(found[1]))
                os.close(status)

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _become(self, request: dict[str, Any], passed: list[int]) -> list[str]:
        """Leave nothing of the parent in the fork."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for each in (self._control, self._ended, self._wakes):
            each.close()
        os.dup2(passed[0], 1)
        os.dup2(passed[1], 2)
        for descriptor in (*passed, *self._children.values()):
            os.close(descriptor)
        os.chdir(request["folder"])
        arguments, env = list(request["arguments"]), request["env"]
        if env.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):  # it is to import other modules
            os.execve(sys.executable, [sys.executable, "-m", "deploy", *arguments], env)
        os.environ.clear()
        os.environ.update(env)
        if place := env.get(clock.VARIABLE):
            clock.follow(place)
        if place := env.get(held_loop.VARIABLE):
            held_loop.watch(place)
        if place := env.get(gate.VARIABLE):
            gate.follow(place)
        return arguments


def load() -> None:
    """Import all that a process may need."""
    for name in IMPORTED:
        importlib.import_module(name)


def main() -> None:
    clock.install()
    load()
    gc.freeze()
    arguments = Parent(socket.socket(fileno=int(sys.argv[1]))).serve()
    if arguments is not None:
        sys.argv[1:] = arguments
        importlib.import_module("deploy.cli").main()


if __name__ == "__main__":
    main()

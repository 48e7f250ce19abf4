"""A program that should never end: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from workers import supervisor
from workers.supervisor import AT_ONCE, Command, ProcessFailed, State, Supervisor

PATIENCE = 20.0
URL = "http://127.0.0.1:1"
SAYS_URL = f'echo \'{{"url": "{URL}"}}\''
STAYS = "exec cat > /dev/null"
"""Until stdin ends; a shell alone would wait for its child before it heeds a signal."""


def sh(script: str, **options: object) -> Command:
    return Command(("/bin/sh", "-c", script), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(command: Command) -> AsyncIterator[Supervisor]:
    made = Supervisor("program", command)
    made.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        await made.stop(0.2)


async def becomes(program: Supervisor, state: State) -> None:
    while program.state != state:
        await program.moved()


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_ready_with_the_address_it_says() -> None:
    async with running(sh(f"echo loading; echo '[]'; {SAYS_URL}; {STAYS}")) as program:
        assert program.state in ("stopped", "starting")
        assert await program.ready() == URL
        assert (program.state, program.address, program.ends) == ("ready", URL, 0)


async def test_ready_once_a_url_answers(unused_port: int) -> None:
    hits: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        hits.append(1)
        return web.Response(status=200 if len(hits) > 2 else 503)

    site = web.Application()
    site.router.add_get("/health", answer)
    runner = web.AppRunner(site)
    await runner.setup()
    url = f"http://127.0.0.1:{unused_port}/health"
    async with running(sh(STAYS, ready=url)) as program:
        await web.TCPSite(runner, "127.0.0.1", unused_port).start()
        assert await program.ready() == url
    await runner.cleanup()
    assert len(hits) == 3


async def test_ready_at_once() -> None:
    async with running(sh(STAYS, ready=AT_ONCE)) as program:
        assert await program.ready() == ""
        assert program.pid


async def test_not_ready_in_time() -> None:
    async with running(sh(STAYS, within=0.05)) as program:
        with pytest.raises(ProcessFailed, match=r"not ready after 0\.05 s"):
            await program.ready()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo first >&2; echo 'no such model' >&2; exit 3", "exit code 3: no such model"),
        ("exit 4", "exit code 4"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo nonsense", "exit code 0"),
    ],
)
async def test_says_why_it_ended(script: str, why: str) -> None:
    async with running(sh(script)) as program:
        with pytest.raises(ProcessFailed, match=f"^{why}$"):
            await program.ready()
        assert (program.state, program.reason, program.pid) == ("failed", why, None)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async with running(Command((str(tmp_path / "missing"),))) as program:
        with pytest.raises(ProcessFailed, match="missing cannot be started: No such file"):
            await program.ready()


async def test_its_words_go_to_a_file(tmp_path: Path) -> None:
    words = tmp_path / "words.log"
    words.write_text("before\n")
    script = "echo '{\"event\": 1}'; echo out; echo Error: no >&2; echo '{}'; exit 2"
    async with running(sh(script, ready=AT_ONCE, words=words)) as program:
        await becomes(program, "failed")
        assert program.reason == "exit code 2: Error: no"
    assert words.read_text().startswith('before\n{"event": 1}\nout\nError: no\n{}\n')


async def test_started_again_when_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF", 0.01)
    states: list[State] = []
    program = Supervisor(
        "program", sh(f"{SAYS_URL}; {STAYS}"), lambda: states.append(program.state)
    )
    program.start()
    async with asyncio.timeout(PATIENCE):
        await program.ready()
        first = program.pid
        program.kill()
        await becomes(program, "failed")
        await becomes(program, "ready")
        assert program.pid != first
        assert program.ends == 1
        await program.stop()
    again: list[State] = ["starting", "ready"]
    assert states == [*again, "failed", *again, "stopping", "stopped"]


async def test_back_off_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 7:
            await asyncio.Event().wait()

    monkeypatch.setattr("workers.supervisor.asyncio.sleep", nap)
    async with running(sh("exit 1")) as program:
        while len(naps) < 7:
            await program.moved()
    assert naps == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def heeding(on_term: str) -> Command:
    """A program that is ready once it treats SIGTERM like this."""
    code = (
        f"import signal, sys\nsignal.signal(15, {on_term})\nprint('{{\"url\": 1}}', flush=True)\n"
    )
    return Command((sys.executable, "-S", "-c", f"{code}while True: signal.pause()"))


async def test_stop_is_asked_for_first(tmp_path: Path) -> None:
    said = tmp_path / "said"
    on_term = f"lambda *_: sys.exit(open({str(said)!r}, 'w').write('bye'))"
    async with running(heeding(on_term)) as program:
        await program.ready()
        assert program.pid
        handle = os.pidfd_open(program.pid)
        await program.stop(PATIENCE)
        assert program.pid is None
    assert select.select([handle], [], [], 0)[0]
    os.close(handle)
    assert said.read_text() == "bye"


async def test_what_does_not_stop_is_killed() -> None:
    async with running(heeding("signal.SIG_IGN")) as program:
        await program.ready()
        assert program.pid
        handle = os.pidfd_open(program.pid)
        await program.stop(0.05)
        await program.stop()  # twice is fine
        assert program.state == "stopped"
    assert select.select([handle], [], [], 0)[0]
    os.close(handle)


async def test_stop_while_it_starts() -> None:
    async with running(sh(STAYS)) as program:
        await becomes(program, "starting")
        waiting = asyncio.create_task(program.ready())
        await program.stop()
        with pytest.raises(ProcessFailed, match="stopp"):
            await waiting


async def test_a_program_never_started_is_not_ready() -> None:
    program = Supervisor("program", sh(STAYS))
    with pytest.raises(ProcessFailed, match="program is stopped"):
        await program.ready()
    await program.stop()
    assert program.state == "stopped"


async def test_our_variables_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KEYS", "hunter2")
    monkeypatch.setenv("OTHER", "passes")
    words = tmp_path / "words"
    command = sh("env", env={"GIVEN": "passes too"}, ready=AT_ONCE, words=words)
    async with running(command) as program:
        await becomes(program, "failed")
    said = words.read_text()
    assert "OTHER=passes" in said
    assert "GIVEN=passes too" in said
    assert "hunter2" not in said


async def test_a_very_long_line_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LIMIT", 1000)
    script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'the end' >&2; exit 1"
    async with running(sh(script)) as program:
        with pytest.raises(ProcessFailed, match=r"exit code 1: .*the end$"):
            await program.ready()


def test_its_stdin_ends_with_us() -> None:
    """What is killed can tell nobody to stop: the pipe's end does."""
    code = (
        "import asyncio\nfrom workers.supervisor import Command, Supervisor\n"
        "async def main():\n"
        f"    one = Supervisor('p', Command(('/bin/sh', '-c', {f'{SAYS_URL}; {STAYS}'!r})))\n"
        "    one.start()\n    await one.ready()\n    print(one.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    gone, _, _ = select.select([handle], [], [], PATIENCE)
    os.close(handle)
    assert gone == [handle]

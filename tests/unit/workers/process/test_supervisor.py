"""A program that should never end: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests import ports
from workers.process import program as programs
from workers.process import supervisor
from workers.process.program import AT_ONCE, Command, ProcessFailed
from workers.process.supervisor import State, Supervisor

PATIENCE = 20.0
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


async def test_ready_once_a_url_answers() -> None:
    hits: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        hits.append(1)
        return web.Response(status=200 if len(hits) > 2 else 503)

    site = web.Application()
    site.router.add_get("/health", answer)
    runner = web.AppRunner(site)
    await runner.setup()
    port = ports.free()
    url = f"http://127.0.0.1:{port}/health"
    async with running(sh(STAYS, ready=url)) as program:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await program.ready()
        assert (program.state, program.ends) == ("ready", 0)
    await runner.cleanup()
    assert len(hits) == 3


async def test_ready_at_once() -> None:
    async with running(sh(STAYS, ready=AT_ONCE)) as program:
        await program.ready()
        assert program.pid


async def test_not_ready_in_time() -> None:
    nowhere = "http://127.0.0.1:1/"
    async with running(sh(STAYS, ready=nowhere, within=0.05)) as program:
        with pytest.raises(ProcessFailed, match=r"not ready after 0\.05 s"):
            await program.ready()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo first >&2; echo 'no such model' >&2; exit 3", "exit code 3: no such model"),
        ("exit 4", "exit code 4"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo done", "exit code 0: done"),
    ],
)
async def test_says_why_it_ended(script: str, why: str) -> None:
    async with running(sh(script)) as program:
        await becomes(program, "failed")
        with pytest.raises(ProcessFailed, match=f"^{why}$"):
            await program.ready()
        assert (program.state, program.reason, program.pid) == ("failed", why, None)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "no-program"
    file.touch()
    for name, why in (
        (str(file), "there is no such program"),
        ("no-such-thing", "it is not in PA"),
    ):
        async with running(Command((name,))) as program:
            await becomes(program, "failed")
            assert program.reason.startswith(f"{name} cannot be started: {why}")


async def test_words_that_cannot_be_kept(tmp_path: Path) -> None:
    async with running(sh(STAYS, words=tmp_path / "missing" / "words")) as program:
        await becomes(program, "failed")
        assert program.reason == "/bin/sh cannot be started: No such file or directory"


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
    program = Supervisor("program", sh(STAYS), lambda: states.append(program.state))
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

    monkeypatch.setattr("workers.process.supervisor.asyncio.sleep", nap)
    async with running(sh("exit 1")) as program:
        while len(naps) < 7:
            await program.moved()
    assert naps == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@asynccontextmanager
async def heeding(on_term: str, tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A program that treats SIGTERM like this already."""
    told = tmp_path / "told"
    os.mkfifo(told)
    code = f"import signal, sys\nsignal.signal(15, {on_term})\nopen({str(told)!r}, 'w').close()\n"
    command = Command((sys.executable, "-S", "-c", f"{code}while True: signal.pause()"))
    async with running(command) as program:
        await asyncio.to_thread(told.read_bytes)
        yield program


async def test_stop_is_asked_for_first(tmp_path: Path) -> None:
    said = tmp_path / "said"
    on_term = f"lambda *_: sys.exit(open({str(said)!r}, 'w').write('bye'))"
    async with heeding(on_term, tmp_path) as program:
        assert program.pid
        handle = os.pidfd_open(program.pid)
        await program.stop(PATIENCE)
        assert program.pid is None
    assert select.select([handle], [], [], 0)[0]
    os.close(handle)
    assert said.read_text() == "bye"


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with heeding("signal.SIG_IGN", tmp_path) as program:
        assert program.pid
        handle = os.pidfd_open(program.pid)
        await program.stop(0.05)
        await program.stop()  # twice is fine
        assert program.state == "stopped"
    assert select.select([handle], [], [], 0)[0]
    os.close(handle)


async def test_stop_while_it_starts() -> None:
    async with running(sh(STAYS, ready="http://127.0.0.1:1/")) as program:
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
    monkeypatch.setattr(programs, "LINE_LIMIT", 1000)
    script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'the end' >&2; exit 1"
    async with running(sh(script)) as program:
        await becomes(program, "failed")
        assert program.reason.startswith("exit code 1: ")
        assert program.reason.endswith("the end")


async def test_all_that_it_has_started_ends_with_it() -> None:
    """By its own end, by ours, and when it is condemned."""
    for way in ("crash", "stop", "restart"):
        async with running(sh("sleep 1000 & echo $!; wait", words=None)) as program:
            await becomes(program, "ready")
            child = await said(program)
            handle = os.pidfd_open(child)
            assert program.pid
            if way == "crash":
                os.kill(program.pid, signal.SIGKILL)
            elif way == "stop":
                await program.stop()
            else:
                program.restart("it hangs")
            await asyncio.to_thread(ended, handle)


async def said(program: Supervisor) -> int:
    """The number that the program says first."""
    while not program._said:
        await asyncio.sleep(0.01)
    return int(program._said[0])


def ended(handle: int) -> None:
    gone, _, _ = select.select([handle], [], [], PATIENCE)
    os.close(handle)
    assert gone


async def test_nothing_stays_open_of_an_end_that_asyncio_has_not_heard_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its watcher is a thread, which a busy machine may let wait."""
    monkeypatch.setattr(supervisor, "_LAST_WORDS", 0.0)
    before = set(os.listdir("/proc/self/fd"))
    async with running(sh(STAYS)) as program:
        await becomes(program, "ready")
        assert len(os.listdir("/proc/self/fd")) > len(before)
        await program.stop()
    await asyncio.sleep(0)  # the loop closes what was told to close
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_stopped_while_a_condemned_program_ends() -> None:
    """The second word must not end the wait for the first: the program heeds neither."""
    script = "trap 'echo 1' TERM; echo 0; while :; do :; done"
    async with running(sh(script)) as program:
        await becomes(program, "ready")
        program._patience = 0.5
        assert program.pid
        handle = os.pidfd_open(program.pid)
        assert await said(program) == 0
        program._said.clear()
        program.restart("it hangs")
        assert await said(program) == 1
        await program.stop()
    assert select.select([handle], [], [], 0)[0]
    os.close(handle)


async def test_condemned_while_it_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF", 0.01)
    async with running(sh(STAYS)) as program:
        program._patience = 0.05
        program.restart("not yet there")
        await becomes(program, "ready")
        first = program.pid
        assert first
        os.kill(first, signal.SIGSTOP)
        program.restart("it hangs")
        program.restart("asked twice")
        await becomes(program, "failed")
        assert (program.reason, program.ends) == ("it hangs", 1)
        await becomes(program, "ready")
        assert program.pid != first


async def test_each_start_may_be_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF", 0.01)
    scripts = ["exit 3", "", "exit 4"]

    def command() -> Command:
        if not (script := scripts.pop(0)):
            raise ProcessFailed("not now")
        return sh(script)

    reasons: list[str] = []
    program = Supervisor("program", command, lambda: reasons.append(program.reason))
    program.start()
    async with asyncio.timeout(PATIENCE):
        while scripts or program.state != "failed":
            await program.moved()
    await program.stop()
    assert [each for each in reasons if each] == ["exit code 3", "not now", "exit code 4"]


async def test_a_secret_is_masked_in_its_words() -> None:
    async with running(
        sh("echo my key is hunter2hunter2; exit 1", secrets=("hunter2hunter2",))
    ) as p:
        await becomes(p, "failed")
        assert p.reason == "exit code 1: my key is ********"


def test_it_ends_with_us() -> None:
    """Even when we are killed, and can tell nobody to stop."""
    code = (
        "import asyncio\nfrom workers.process.program import Command\n"
        "from workers.process.supervisor import Supervisor\n"
        "async def main():\n"
        "    one = Supervisor('p', Command(('/bin/sleep', '1000')))\n"
        "    one.start()\n    await one.ready()\n    print(one.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()  # of our log
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    gone, _, _ = select.select([handle], [], [], PATIENCE)
    os.close(handle)
    assert gone == [handle]

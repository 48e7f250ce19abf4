"""An engine around a program of its own; the program is real, the engine a double."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from schemas import settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel
from tests.doubles.drive import RecordingSink, job
from tests.ports import free
from tests.unit import fakes
from workers.engines import KINDS, build
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.process import ports, supervised, supervisor
from workers.process.supervised import Supervised

OPENS = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    client.sendall(" ".join([*sys.argv[2:], os.environ.get("TOKEN", "")]).encode())
    client.close()
"""
STAYS = "import signal\nsignal.pause()"


class Client:
    """An engine that asks its program for what it was started with."""

    kind = "fake"

    def __init__(self, config: settings.Engine) -> None:
        self.name, self.url = config.name, config.url
        self.told = b""
        self.fault = ""
        self.closed = False
        self.hold = asyncio.Event()
        self.hold.set()

    async def open(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    async def discover(self) -> Offer:
        try:
            async with asyncio.timeout(fakes.PATIENCE):
                address = urlsplit(self.url)
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                self.told = await reader.read()
                writer.close()
        except OSError as fault:
            raise EngineFault(f"no connection: {fault.strerror}", away=True) from None
        return Offer(2, (ServedModel("m", self.name, self.kind, 2),))

    async def check(self) -> None:
        if self.fault:
            raise EngineFault(self.fault, away=True)

    async def probe(self) -> bool:
        return not self.fault

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        await self.hold.wait()
        return End()


class SupervisedSetup:
    """A supervised engine, and the clients that were made for it."""

    def __init__(self, script: str, **more: object) -> None:
        self.clients: list[Client] = []
        self.ends: list[str] = []
        table = {"name": "e", "command": [sys.executable, "-S", "-c", script, "{port}"], **more}
        self.engine = Supervised(settings.Engine.model_validate(table), self._make)
        self.engine.on_end = lambda fault: self.ends.append(fault.message)

    def _make(self, config: settings.Engine) -> Client:
        self.clients.append(Client(config))
        return self.clients[-1]

    async def until_sound(self) -> Offer:
        """As workers ask: again and again, while it is early, or back from an end that was told."""
        while True:
            try:
                offer = await self.engine.discover()
                await self.engine.check()
            except EngineFault as fault:
                if not fault.early and fault.message not in self.ends:
                    raise
                await asyncio.sleep(0.01)
            else:
                return offer

    async def fault(self) -> str:
        """The first fault that is not just early."""
        while True:
            try:
                await self.engine.discover()
                await self.engine.check()
            except EngineFault as fault:
                if not fault.early:
                    return fault.message
            await asyncio.sleep(0.01)

    async def ended(self) -> None:
        while not self.ends:
            await self.engine._process.moved()

    @property
    def pid(self) -> int:
        assert self.engine._process.pid
        return self.engine._process.pid


@asynccontextmanager
async def supervising(script: str = OPENS, **more: object) -> AsyncIterator[SupervisedSetup]:
    setup = SupervisedSetup(script, **more)
    await setup.engine.open()
    try:
        async with asyncio.timeout(fakes.PATIENCE):
            yield setup
    finally:
        await setup.engine.close()


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF", 0.01)
    monkeypatch.setattr(supervisor, "_HUNG_PATIENCE", 0.05)


@contextmanager
def listener(port: int = 0) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", port)) as found:
        found.setblocking(False)
        yield found


def test_every_kind_can_be_started() -> None:
    for kind in sorted(KINDS.keys() - {"echo", "embedded"}):
        made = build(settings.Engine(name="e", kind=kind, command=["x", "{port}"]))
        assert isinstance(made, Supervised)
        assert made.kind == kind
    with_url = build(settings.Engine(name="e", url="http://127.0.0.1:1"))
    assert type(with_url) is LlamaCppEngine


async def test_started_and_served_at_its_own_address(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    more = [sys.executable, "-S", "-c", OPENS, "{port}", "-m", "{file}"]
    async with supervising(command=more, file=str(file), env={"TOKEN": "at {port}"}) as setup:
        offer = await setup.until_sound()
        client = setup.clients[-1]
        port = urlsplit(client.url).port
        assert (offer.slots, client.told) == (2, f"-m {file} at {port}".encode())
        assert await setup.engine.probe()
        assert await setup.engine.run(job("m"), b"", RecordingSink()) == End()
        pid = os.pidfd_open(setup.pid)
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pid, 0)
    os.close(pid)
    assert client.closed
    assert setup.ends == []


async def test_killed_it_is_started_again_elsewhere() -> None:
    async with supervising() as setup:
        await setup.until_sound()
        os.kill(setup.pid, signal.SIGKILL)
        await setup.ended()
        assert setup.ends == [await setup.fault()] == ["killed by SIGKILL"]
        assert not await setup.engine.probe()
        await setup.until_sound()
        first, second = setup.clients
        assert first.url != second.url
        assert first.closed


async def test_what_does_not_start_says_why() -> None:
    async with supervising("raise SystemExit('no such model')") as setup:
        for _ in range(2):
            assert await setup.fault() == "exit code 1: no such model"


async def test_frozen_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "DOUBT", 0.0)
    async with supervising() as setup:
        await setup.until_sound()
        frozen = setup.pid
        os.kill(frozen, signal.SIGSTOP)
        setup.clients[-1].fault = "no answer"
        setup.clients[-1].discover = _found  # type: ignore[method-assign]
        assert await setup.fault() == "it failed its check for 0 s: no answer"
        await setup.ended()
        await setup.until_sound()
        assert setup.pid != frozen


async def _found() -> Offer:
    return Offer(2, ())


async def test_a_slow_job_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its check says, as long as a job in it moves on: else the job is stopped."""
    monkeypatch.setattr(supervised, "DOUBT", 0.0)
    async with supervising() as setup:
        await setup.until_sound()
        client = setup.clients[-1]
        client.hold.clear()
        running = asyncio.create_task(setup.engine.run(job("m"), b"", RecordingSink()))
        await fakes.turns()
        client.fault = "busy"
        for _ in range(3):
            assert await setup.fault() == "busy"
        client.hold.set()
        await running
        assert "failed its check" in await setup.fault()


async def test_a_doubt_lasts_for_a_while_before_it_is_ended() -> None:
    async with supervising() as setup:
        await setup.until_sound()
        setup.clients[-1].fault = "hm"
        for _ in range(3):
            assert await setup.fault() == "hm"
        setup.clients[-1].fault = ""
        await setup.until_sound()
        assert setup.ends == []


async def test_it_must_be_ready_in_time() -> None:
    async with supervising(STAYS, ready_within=0.05) as setup:
        assert (await setup.fault()).startswith("not ready after 0.05 s: ")


async def test_an_answer_that_does_not_come_is_not_waited_for_longer() -> None:
    async with supervising(ready_within=0.3) as setup:
        monkey = asyncio.Event()

        async def never() -> Offer:
            await monkey.wait()
            raise AssertionError

        with suppress(EngineFault):  # it may not be open yet
            await setup.engine.discover()
        setup.clients[-1].discover = never  # type: ignore[method-assign]
        assert await setup.fault() == "not ready after 0.3 s: it does not answer"


async def test_a_port_that_is_taken() -> None:
    with listener() as stranger:
        port = stranger.getsockname()[1]
        async with supervising(port=port) as setup:
            assert await setup.fault() == f"port {port} is taken by another program"
            with pytest.raises(BlockingIOError):
                stranger.accept()
            stranger.close()
            await setup.until_sound()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_stranger_that_answers_in_its_place() -> None:
    port = free()
    async with supervising(STAYS, port=port) as setup:
        with pytest.raises(EngineFault) as fault:
            await setup.engine.discover()
        assert fault.value.early
        with listener(port) as stranger:
            with pytest.raises(EngineFault, match="answered by another program"):
                await setup.engine.discover()
            with pytest.raises(BlockingIOError):
                stranger.accept()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_whose_a_port_is() -> None:
    with listener() as ours, subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        port = ours.getsockname()[1]
        assert ports.taken(port)
        assert not ports.taken_by_another(port, os.getsid(0))
        assert ports.taken_by_another(port, other.pid)
        other.kill()
    assert not ports.taken(port)
    assert not ports.taken_by_another(port, os.getsid(0))

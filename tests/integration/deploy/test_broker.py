"""The real nats-server, as `headrace up` and the tests run it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.nats import binary, broker, store
from deploy.nats.broker import Broker
from deploy.nats.errors import (
    BinaryMissing,
    BrokerError,
    BrokerFailed,
    PortTaken,
    StoreBusy,
    StoreUnusable,
)
from schemas import subjects
from tests.integration.deploy.roles import PATIENCE, connected, page, port_of

# Life and death


@pytest.mark.parametrize(("cores", "said", "told"), [(1, "", "1"), (1, "3", "3"), (0, "", "")])
def test_it_computes_on_as_many_cores_as_it_is_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, said: str, told: str
) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    if said:
        monkeypatch.setenv("GOMAXPROCS", said)
    with broker.start(tmp_path, 0, cores=cores) as running:
        variables = Path(f"/proc/{running.pid}/environ").read_text().split("\0")
    found = [each for each in variables if each.startswith("GOMAXPROCS=")]
    assert found == ([f"GOMAXPROCS={told}"] if told else [])


def test_ready_when_started(tmp_path: Path) -> None:
    began = time.perf_counter()
    with broker.start(tmp_path, 0, 0) as running:
        print(f"started in {(time.perf_counter() - began) * 1e3:.0f} ms")
        assert running.alive
        assert urlsplit(running.url).hostname == urlsplit(running.http_url).hostname == "127.0.0.1"
        assert "@" not in running.url
        assert page(running, "/healthz") == {"status": "ok"}
        seen = page(running, "/varz")
        assert (seen["server_name"], seen["max_payload"]) == ("headrace", 2 * 2**20)
        assert (seen["ping_interval"], seen["ping_max"]) == (2_000_000_000, 2)
        assert seen["write_deadline"] == 5_000_000_000
        jetstream = page(running, "/jsz")["config"]
        assert jetstream["store_dir"] == str(tmp_path / "jetstream")
        assert (jetstream.get("sync_always"), jetstream["sync_interval"]) == (None, 1_000_000_000)
        assert store.find(tmp_path) == store.Address(running.url, running.http_url, running.pid)
        handle = os.pidfd_open(running.pid)
        began = time.perf_counter()
    print(f"stopped in {(time.perf_counter() - began) * 1e3:.0f} ms")
    gone, _, _ = select.select([handle], [], [], 0)
    os.close(handle)
    assert gone
    assert not running.alive
    assert store.find(tmp_path) is None


def test_sync_always(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0, sync="always") as running:
        assert page(running, "/jsz")["config"]["sync_always"] is True


def test_a_path_with_odd_letters(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \\c $HOME #é'
    with broker.start(odd, 0, 0) as running:
        assert running.log.parent == odd
        assert "Server is ready" in running.log.read_text()


async def test_a_killed_broker_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        async with connected(running, "admin") as admin:
            js = admin.client.jetstream()
            await js.add_stream(name="JOBS", subjects=[subjects.ALL_JOBS])
            for number in range(100):
                await js.publish("jobs.m.i.acme", b"%d" % number)
            old = (running.url, running.http_url, running.users, running.pid)
            running.kill()
        assert not running.alive
        began = time.perf_counter()
        running.restart()
        print(f"restarted in {(time.perf_counter() - began) * 1e3:.0f} ms")
        assert (running.url, running.http_url, running.users) == old[:3]
        assert running.pid != old[3]
        found = store.find(tmp_path)
        assert found
        assert found.pid == running.pid
        async with connected(running, "admin") as admin:
            state = (await admin.client.jetstream().stream_info("JOBS")).state
            assert state.messages == 100


async def test_a_second_start_finds_store_and_users(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as first:
        async with connected(first, "admin") as admin:
            await admin.client.jetstream().add_stream(name="JOBS", subjects=[subjects.ALL_JOBS])
            await admin.client.jetstream().publish("jobs.m.i.acme", b"job")
    with broker.start(tmp_path, 0, 0) as second:
        assert second.users == first.users
        async with connected(second, "admin") as admin:
            kept = await admin.client.jetstream().get_msg("JOBS", 1)
            assert kept.data == b"job"


def test_restart_of_a_running_broker(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        old = running.pid, running.url
        running.restart()
        assert (running.pid != old[0], running.url) == (True, old[1])
        assert page(running, "/healthz") == {"status": "ok"}


def test_its_end_is_seen_whoever_ended_it(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        assert running.alive
        handle = os.pidfd_open(running.pid)
        os.kill(running.pid, signal.SIGKILL)
        gone, _, _ = select.select([handle], [], [], PATIENCE)
        os.close(handle)
        assert gone
        assert not running.alive


def test_the_store_is_free_again_after_a_failed_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), broker.start(tmp_path, 0, 0):
        raise KeyError
    with broker.start(tmp_path, 0, 0) as running:
        assert running.alive


def test_started_from_a_thread_that_ends(tmp_path: Path) -> None:
    started: list[tuple[Any, Broker]] = []

    def run() -> None:
        block = broker.start(tmp_path, 0, 0)
        started.append((block, block.__enter__()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    block, running = started[0]
    handle = os.pidfd_open(running.pid)
    gone, _, _ = select.select([handle], [], [], 0.2)
    os.close(handle)
    assert not gone
    assert page(running, "/healthz") == {"status": "ok"}
    block.__exit__(None, None, None)
    assert not running.alive


OWNER = """
import pathlib, sys
from deploy.nats import broker
with broker.start(pathlib.Path(sys.argv[1]), 0, 0) as running:
    print(running.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_no_orphan_is_left_by_a_killed_owner(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout
        handle = os.pidfd_open(int(owner.stdout.readline()))
        with pytest.raises(StoreBusy, match=f"process {owner.pid}"), broker.start(tmp_path, 0, 0):
            pass
        owner.kill()
    gone, _, _ = select.select([handle], [], [], PATIENCE)
    os.close(handle)
    assert gone
    with broker.start(tmp_path, 0, 0) as running:
        assert running.alive


def test_one_broker_for_each_store(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        with pytest.raises(StoreBusy, match="in use"), broker.start(tmp_path, 0, 0):
            pass
        assert running.alive
        assert store.find(tmp_path)


# Ports


def test_a_taken_port_gives_another(tmp_path: Path, shared: Broker) -> None:
    wanted = port_of(shared.url), port_of(shared.http_url)
    with broker.start(tmp_path, *wanted) as running:
        assert port_of(running.url) not in (0, *wanted)
        assert port_of(running.http_url) not in (0, *wanted)


def test_there_is_no_monitoring_page_unless_asked_for(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0) as running:
        assert running.http_url == ""
        running.restart()
        assert running.http_url == ""
        listens = [
            line.split()[1].rpartition(":")[2]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if int(line.split()[9]) in _sockets(running.pid) and line.split()[3] == "0A"
        ]
        assert [int(port, 16) for port in listens] == [port_of(running.url)]


def _sockets(pid: int) -> set[int]:
    links = (os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir())
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def test_a_free_port_is_used(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        ports = port_of(running.url), port_of(running.http_url)
    with broker.start(tmp_path, *ports) as running:
        assert (port_of(running.url), port_of(running.http_url)) == ports


@pytest.mark.parametrize("which", [0, 1])
def test_a_port_taken_at_the_last_moment(
    tmp_path: Path, shared: Broker, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    monkeypatch.setattr(broker, "_free", lambda port: port or -1)
    wanted = [0, 0]
    wanted[which] = port_of((shared.url, shared.http_url)[which])
    with broker.start(tmp_path, *wanted) as running:
        assert port_of((running.url, running.http_url)[which]) != wanted[which]
        assert page(running, "/healthz") == {"status": "ok"}


def test_a_restart_says_who_has_itsport_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_PORT_PATIENCE", 0.0)
    with broker.start(tmp_path, 0, 0) as running, socket.socket() as thief:
        running.kill()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port_of(running.url)))
        thief.listen()
        with pytest.raises(PortTaken, match=f"{port_of(running.url)}.*address already in use"):
            running.restart()
        assert not running.alive
        thief.close()
        running.restart()
        assert running.alive


# What cannot run


def test_an_old_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / binary.NAME
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(old.parent / "python"))
    with (
        pytest.raises(BinaryMissing, match=r"v2\.9\.10, but 2\.12"),
        broker.start(tmp_path / "s", 0, 0),
    ):
        pass
    assert not (tmp_path / "s").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0):
        pass
    (tmp_path / "jetstream").rmdir()
    (tmp_path / "jetstream").touch()
    with pytest.raises(BrokerFailed, match="JetStream") as caught, broker.start(tmp_path, 0, 0):
        pass
    assert "ended with code 1" in str(caught.value)
    assert not isinstance(caught.value, PortTaken)
    (tmp_path / "jetstream").unlink()
    with broker.start(tmp_path, 0, 0) as running:
        assert running.alive


def test_a_server_that_is_never_ready(tmp_path: Path) -> None:
    with (
        pytest.raises(BrokerFailed, match="not ready after 0 s"),
        broker.start(tmp_path, 0, 0, ready_within=0),
    ):
        pass
    assert store.find(tmp_path) is None


def test_a_store_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(StoreUnusable) as caught, broker.start(tmp_path, 0, 0):
        pass
    assert isinstance(caught.value, BrokerError)

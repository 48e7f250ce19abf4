"""The real nats-server, as `headrace up` and the tests run it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client

from deploy.nats import binary, broker, store
from deploy.nats.broker import Broker
from deploy.nats.errors import (
    BinaryTooOld,
    BrokerError,
    BrokerFailed,
    PortTaken,
    StoreBusy,
    StoreUnusable,
)
from schemas import subjects

PATIENCE = 10.0
INBOXES = {"worker": subjects.INBOX_WORKER, "ingress": subjects.INBOX_INGRESS}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the tests that do not harm it."""
    with broker.start(tmp_path_factory.mktemp("shared"), 0, 0) as running:
        yield running


class Connection:
    """A client of one role that remembers what the server refused it."""

    def __init__(self, client: Client, refused: asyncio.Queue[str]) -> None:
        self.client = client
        self.refused = refused

    async def refusal(self) -> str:
        return await asyncio.wait_for(self.refused.get(), PATIENCE)


@asynccontextmanager
async def connected(to: Broker, role: str, **options: Any) -> AsyncIterator[Connection]:
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def note(fault: Exception) -> None:
        refused.put_nowait(str(fault).lower())

    user, password = to.users[role]
    client = await nats.connect(
        to.url,
        user=user,
        password=password,
        error_cb=note,
        inbox_prefix=INBOXES.get(role, subjects.INBOX_ADMIN),
        allow_reconnect=False,
        **options,
    )
    try:
        yield Connection(client, refused)
    finally:
        await client.close()


def _get(running: Broker, path: str) -> Any:
    with urllib.request.urlopen(running.http_url + path, timeout=PATIENCE) as answer:
        return json.load(answer)


def _login(to: Broker, **login: str) -> str:
    """What the server says to this CONNECT, until it hangs up."""
    with socket.create_connection(("127.0.0.1", _port(to.url)), PATIENCE) as line:
        line.sendall(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
        return b"".join(iter(lambda: line.recv(4096), b"")).decode()


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


# Life and death


def test_ready_when_started(tmp_path: Path) -> None:
    began = time.perf_counter()
    with broker.start(tmp_path, 0, 0) as running:
        print(f"started in {(time.perf_counter() - began) * 1e3:.0f} ms")
        assert running.alive
        assert urlsplit(running.url).hostname == urlsplit(running.http_url).hostname == "127.0.0.1"
        assert "@" not in running.url
        assert _get(running, "/healthz") == {"status": "ok"}
        seen = _get(running, "/varz")
        assert (seen["server_name"], seen["max_payload"]) == ("headrace", 2 * 2**20)
        assert (seen["ping_interval"], seen["ping_max"]) == (2_000_000_000, 2)
        assert seen["write_deadline"] == 5_000_000_000
        jetstream = _get(running, "/jsz")["config"]
        assert jetstream["store_dir"] == str(tmp_path / "jetstream")
        assert not jetstream.get("sync_always")
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
    with broker.start(tmp_path, 0, 0, sync_always=True) as running:
        assert _get(running, "/jsz")["config"]["sync_always"] is True


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
                await js.publish("jobs.m.i", b"%d" % number)
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
            await admin.client.jetstream().publish("jobs.m.i", b"job")
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
        assert _get(running, "/healthz") == {"status": "ok"}


def test_whoever_waits_learns_of_its_end(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        assert not running.wait(0)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait(PATIENCE)
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
    assert not running.wait(0.2)
    assert _get(running, "/healthz") == {"status": "ok"}
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
    wanted = _port(shared.url), _port(shared.http_url)
    with broker.start(tmp_path, *wanted) as running:
        assert _port(running.url) not in (0, *wanted)
        assert _port(running.http_url) not in (0, *wanted)


def test_a_free_port_is_used(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        ports = _port(running.url), _port(running.http_url)
    with broker.start(tmp_path, *ports) as running:
        assert (_port(running.url), _port(running.http_url)) == ports


@pytest.mark.parametrize("which", [0, 1])
def test_a_port_taken_at_the_last_moment(
    tmp_path: Path, shared: Broker, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    monkeypatch.setattr(broker, "_free", lambda port: port or -1)
    wanted = [0, 0]
    wanted[which] = _port((shared.url, shared.http_url)[which])
    with broker.start(tmp_path, *wanted) as running:
        assert _port((running.url, running.http_url)[which]) != wanted[which]
        assert _get(running, "/healthz") == {"status": "ok"}


def test_a_restart_says_who_has_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_PORT_PATIENCE", 0.0)
    with broker.start(tmp_path, 0, 0) as running, socket.socket() as thief:
        running.kill()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", _port(running.url)))
        thief.listen()
        with pytest.raises(PortTaken, match=f"{_port(running.url)}.*address already in use"):
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
        pytest.raises(BinaryTooOld, match=r"v2\.9\.10, but 2\.12"),
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


# Secrets


async def test_secrets_are_in_private_files_alone(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        for role in ("worker", "ingress", "admin", "sys"):
            async with connected(running, role) as someone:
                await someone.client.flush()
        assert "Authorization Violation" in _login(running, user="worker", **{"pass": "wrong"})
        process = Path("/proc") / str(running.pid)
        exposed = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        for page in ("/varz", "/connz?auth=true", "/accountz?acc=HEADRACE", "/subsz?subs=1"):
            exposed += json.dumps(_get(running, page)).encode()
        exposed += repr(running).encode()
    private = {"credentials", "nats-server.conf"}
    for path in tmp_path.iterdir():
        if path.name in private:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        elif path.is_file():
            exposed += path.read_bytes()
    assert b"authentication error" in exposed
    assert not [role for role, (_, word) in running.users.items() if word.encode() in exposed]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("login", [{}, {"user": "worker", "pass": "x"}, {"auth_token": "x"}])
def test_nobody_enters_without_a_password(shared: Broker, login: dict[str, str]) -> None:
    assert "Authorization Violation" in _login(shared, **login)


# Who may do what

REFUSED = [
    ("worker", "publish", "jobs.m.i"),
    ("worker", "publish", "c.someone"),
    ("worker", "publish", "fb.want.m"),
    ("worker", "publish", "$JS.API.STREAM.DELETE.JOBS"),
    ("worker", "publish", "$JS.API.STREAM.PURGE.JOBS"),
    ("worker", "publish", "$JS.API.CONSUMER.DELETE.JOBS.c"),
    ("worker", "publish", "$JS.API.CONSUMER.MSG.NEXT.DEAD.c"),
    ("worker", "publish", "$JS.ACK.DEAD.c.1.1.1.1.1"),
    ("worker", "publish", "$KV.keys.x"),
    ("worker", "publish", subjects.DISCONNECTS),
    ("worker", "publish", "_I.someone"),
    ("worker", "subscribe", "r.*.*"),
    ("worker", "subscribe", "r.i.j"),
    ("worker", "subscribe", "jobs.>"),
    ("worker", "subscribe", "b.*.*"),
    ("worker", "subscribe", "_I.>"),
    ("worker", "subscribe", subjects.DISCONNECTS),
    ("worker", "subscribe", ">"),
    ("ingress", "publish", "r.i.j"),
    ("ingress", "publish", "$KV.keys.x"),
    ("ingress", "publish", subjects.DISCONNECTS),
    ("ingress", "subscribe", "_W.>"),
    ("ingress", "subscribe", "jobs.>"),
    ("ingress", "subscribe", ">"),
]


@pytest.mark.parametrize(("role", "verb", "subject"), REFUSED)
async def test_refused(shared: Broker, role: str, verb: str, subject: str) -> None:
    async with connected(shared, role) as someone:
        if verb == "publish":
            await someone.client.publish(subject, b"x")
        else:
            await someone.client.subscribe(subject)
        told = await someone.refusal()
        assert "permissions violation" in told
        assert subject.lower() in told


ALLOWED = [
    ("worker", "ingress", "r.i.j"),
    ("worker", "ingress", "b.i.j"),
    ("worker", "ingress", "hb.w"),
    ("ingress", "worker", "c.w"),
    ("ingress", "ingress", "hb.i"),
    ("worker", "admin", "dead.m"),
    ("ingress", "admin", "fb.want.m"),
    ("ingress", "admin", "jobs.m.i"),
    ("ingress", "worker", "_W.box"),
]


@pytest.mark.parametrize(("sender", "receiver", "subject"), ALLOWED)
async def test_allowed(shared: Broker, sender: str, receiver: str, subject: str) -> None:
    async with connected(shared, sender) as one, connected(shared, receiver) as other:
        inbox = await other.client.subscribe(subject)
        await other.client.flush()
        await one.client.publish(subject, b"x")
        message = await inbox.next_msg(timeout=PATIENCE)
        assert (message.subject, message.data) == (subject, b"x")
        assert one.refused.empty()
        assert other.refused.empty()


async def test_a_request_is_answered_and_discovery_too(shared: Broker) -> None:
    async with (
        connected(shared, "worker") as worker,
        connected(shared, "ingress") as ingress,
        connected(shared, "admin") as admin,
    ):
        claims = await ingress.client.subscribe("r.i.*")
        await ingress.client.flush()
        asked = asyncio.ensure_future(worker.client.request("r.i.j", b"claim", timeout=PATIENCE))
        await (await claims.next_msg(timeout=PATIENCE)).respond(b"go")
        assert (await asked).data == b"go"

        for process in (worker, ingress):
            pings = await process.client.subscribe("$SRV.PING")
            await process.client.flush()
            asked = asyncio.ensure_future(admin.client.request("$SRV.PING", timeout=PATIENCE))
            await (await pings.next_msg(timeout=PATIENCE)).respond(b"here")
            assert (await asked).data == b"here"
            await pings.unsubscribe()
            assert process.refused.empty()


async def test_a_worker_pulls_and_acks(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        async with connected(running, "ingress") as ingress, connected(running, "worker") as worker:
            js = ingress.client.jetstream()
            await js.add_stream(name="JOBS", subjects=[subjects.ALL_JOBS], retention="workqueue")
            name = subjects.consumer("m", subjects.INTERACTIVE)
            config = {"durable_name": name, "filter_subject": "jobs.m.i", "ack_policy": "explicit"}
            made = await worker.client.request(
                f"$JS.API.CONSUMER.CREATE.JOBS.{name}.jobs.m.i",
                json.dumps({"stream_name": "JOBS", "config": config}).encode(),
                timeout=PATIENCE,
            )
            assert "error" not in json.loads(made.data)
            await js.publish("jobs.m.i", b"job")
            pull = f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{name}"
            # Old style: an inbox of its own, as a pulled message keeps the subject of the job.
            job = await worker.client.request(
                pull, b'{"batch": 1}', timeout=PATIENCE, old_style=True
            )
            assert job.data == b"job"
            assert job.reply.startswith("$JS.ACK.JOBS.")
            done = await worker.client.request(job.reply, b"+ACK", timeout=PATIENCE)
            assert done.data == b""
            assert (await js.stream_info("JOBS")).state.messages == 0
            assert worker.refused.empty()
            assert ingress.refused.empty()


async def test_the_system_account_is_apart(shared: Broker) -> None:
    async with connected(shared, "sys") as system, connected(shared, "admin") as admin:
        told = await system.client.request("$SYS.REQ.SERVER.PING", timeout=PATIENCE)
        assert json.loads(told.data)["server"]["name"] == "headrace"
        heard = await system.client.subscribe("c.w")
        own = await admin.client.subscribe("c.w")
        await system.client.flush()
        await admin.client.publish("c.w", b"x")
        assert (await own.next_msg(timeout=PATIENCE)).data == b"x"
        await system.client.flush()
        assert heard.pending_msgs == 0


# The end of a connection

CLIENT = """
import asyncio, json, sys
import nats
async def main():
    url, user, password, name = json.loads(sys.stdin.readline())
    client = await nats.connect(url, user=user, password=password, name=name)
    await client.flush()
    print(client.client_id, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_ingress_hears_at_once_that_a_worker_died(shared: Broker) -> None:
    name = "headrace-worker/box a model"
    login = json.dumps([shared.url, *shared.users["worker"], name])
    async with connected(shared, "ingress") as ingress:
        heard: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait((time.perf_counter(), json.loads(message.data)))

        await ingress.client.subscribe(subjects.DISCONNECTS, cb=hear)
        await ingress.client.flush()
        waits = []
        for _ in range(3):
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLIENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert worker.stdin
            assert worker.stdout
            worker.stdin.write(f"{login}\n".encode())
            number = int(await worker.stdout.readline())
            killed = time.perf_counter()
            worker.kill()
            while True:
                at, event = await asyncio.wait_for(heard.get(), PATIENCE)
                if event["client"]["id"] == number:
                    break
            await worker.wait()
            waits.append((at - killed) * 1e3)
            assert event["client"]["name"] == name
            assert event["client"]["user"] == "worker"
            assert event["client"]["acc"] == "HEADRACE"
            assert (event["client"]["kind"], event["client"]["client_type"]) == ("Client", "nats")
            assert event["reason"] == "Client Closed"
        print("kill -9 to disconnect event:", ", ".join(f"{wait:.1f} ms" for wait in waits))
        assert max(waits) < 1000
        assert ingress.refused.empty()

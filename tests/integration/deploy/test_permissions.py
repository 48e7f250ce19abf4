"""What the server lets each role do, and what it tells an ingress of the end of a worker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.nats import broker
from deploy.nats.broker import Broker
from schemas import bus as buses
from schemas import subjects, topology
from schemas.bus import BusDenied
from schemas.settings import Nats
from tests import forks
from tests.integration.deploy.roles import INBOXES, PATIENCE, connected

PULL = json.dumps({"batch": 1, "group": subjects.GROUP}).encode()
REFUSED = [
    ("worker", "publish", subjects.ASK_QUEUES),
    ("fallback", "publish", subjects.ASK_QUEUES),
    ("worker", "publish", "jobs.m.i.acme"),
    ("worker", "publish", "c.box.someone"),
    ("worker", "publish", "fb.want.m"),
    ("worker", "publish", "$JS.API.STREAM.DELETE.JOBS"),
    ("worker", "publish", "$JS.API.STREAM.PURGE.JOBS"),
    ("worker", "publish", "$JS.API.CONSUMER.DELETE.JOBS.c"),
    ("worker", "publish", "$JS.API.CONSUMER.MSG.NEXT.DEAD.c"),
    ("worker", "publish", "$JS.ACK.DEAD.c.1.1.1.1.1"),
    ("worker", "publish", "alerts.a"),
    ("worker", "publish", "$KV.keys.x"),
    ("worker", "publish", subjects.DISCONNECTS),
    ("worker", "publish", "_I.someone"),
    ("worker", "subscribe", "r.*.*.*"),
    ("worker", "publish", "$JS.API.CONSUMER.CREATE.JOBS.c"),
    ("worker", "publish", "$JS.API.STREAM.INFO.JOBS"),
    ("worker", "publish", "$JS.API.INFO"),
    ("worker", "publish", "$SRV.INFO"),
    ("worker", "subscribe", "hb.*.*"),
    ("worker", "subscribe", "$SRV.>"),
    ("worker", "publish", "nodes.a"),
    ("worker", "publish", "$JS.API.DIRECT.GET.NODES"),
    ("ingress", "publish", "nodes.a"),
    ("ingress", "publish", "invites.a"),
    ("worker", "subscribe", "r.i.box.j"),
    ("worker", "subscribe", "jobs.>"),
    ("worker", "publish", "fq.m.i4"),
    ("worker", "publish", "fw.in-1"),
    ("worker", "publish", subjects.CACHES),
    ("worker", "subscribe", subjects.CACHES),
    ("fallback", "publish", subjects.CACHES),
    ("fallback", "subscribe", subjects.CACHES),
    ("worker", "subscribe", "fq.>"),
    ("worker", "subscribe", "b.*.*.*"),
    ("worker", "subscribe", "_I.>"),
    ("worker", "subscribe", subjects.DISCONNECTS),
    ("worker", "subscribe", ">"),
    ("ingress", "publish", "r.i.box.j"),
    ("ingress", "publish", "hb.box.w"),
    ("ingress", "publish", "$KV.keys.x"),
    ("ingress", "publish", subjects.DISCONNECTS),
    ("ingress", "publish", "$JS.API.STREAM.DELETE.JOBS"),
    ("ingress", "publish", "$JS.API.STREAM.PURGE.USAGE"),
    ("ingress", "publish", "$JS.API.STREAM.MSG.DELETE.USAGE"),
    ("ingress", "publish", "$JS.API.STREAM.PURGE.ALERTS"),
    ("fallback", "publish", "$JS.API.CONSUMER.MSG.NEXT.ALERTS.webhook"),
    ("ingress", "subscribe", "_W.>"),
    ("ingress", "subscribe", "jobs.>"),
    ("ingress", "subscribe", ">"),
    ("worker", "publish", "keys.a"),
    ("worker", "publish", "$JS.API.DIRECT.GET.KEYS.keys.a"),
    ("ingress", "publish", "keys.a"),
    ("ingress", "publish", subjects.ASK_GRANT),
    ("ingress", "subscribe", subjects.ASK_LEDGER),
    ("worker", "publish", subjects.ASK_GRANT),
    ("worker", "publish", subjects.ASK_LEDGER),
    ("fallback", "publish", subjects.ASK_GRANT),
    ("keys", "subscribe", subjects.ASK_GRANT),
    ("ingress", "publish", "limits.a"),
    ("ingress", "publish", "$JS.API.CONSUMER.CREATE.KEYS.c"),
    ("ingress", "publish", "$JS.API.STREAM.INFO.KEYS"),
    ("fallback", "publish", "$JS.API.DIRECT.GET.KEYS.keys.a"),
    ("keys", "publish", "jobs.m.i.acme"),
    ("keys", "publish", "credits.a"),
    ("keys", "publish", "$JS.API.STREAM.INFO.JOBS"),
    ("keys", "publish", "$JS.API.STREAM.INFO.CREDITS"),
    ("keys", "publish", "$JS.API.STREAM.CREATE.OTHER"),
    ("keys", "publish", "$JS.API.STREAM.DELETE.KEYS"),
    ("keys", "publish", "$JS.API.STREAM.PURGE.KEYS"),
    ("keys", "publish", "$JS.API.STREAM.MSG.DELETE.KEYS"),
    ("keys", "publish", "$JS.API.STREAM.PURGE.LIMITS"),
    ("keys", "publish", "$JS.API.STREAM.SNAPSHOT.KEYS"),
    ("keys", "subscribe", "keys.*"),
    ("keys", "subscribe", "_I.>"),
    ("keys", "subscribe", ">"),
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
    ("worker", "ingress", "r.i.box.j"),
    ("worker", "ingress", "b.i.box.j"),
    ("worker", "ingress", "hb.box.w"),
    ("worker", "admin", "hb.box.w"),
    ("worker", "monitor", "hb.box.w"),
    ("worker", "hub", "hb.box.w"),
    ("worker", "fallback", "hb.box.w"),
    ("ingress", "worker", "c.box.w"),
    ("hub", "worker", "c.box.w"),
    ("ingress", "admin", "dead.m"),
    ("ingress", "fallback", "fb.want.m"),
    ("ingress", "fallback", subjects.ASK_LEDGER),
    ("ingress", "admin", "jobs.m.i.acme"),
    ("hub", "admin", "nodes.a"),
    ("hub", "admin", "invites.a"),
    ("admin", "hub", subjects.ASK_APPLIED),
    ("ingress", "ingress", "fq.m.i4"),
    ("ingress", "ingress", "fw.in-1"),
    ("ingress", "ingress", subjects.CACHES),
    ("ingress", "admin", "alerts.a"),
    ("fallback", "admin", "alerts.a"),
    ("admin", "ingress", subjects.ASK_QUEUES),
    ("monitor", "ingress", subjects.ASK_QUEUES),
]


@pytest.mark.parametrize(("sender", "receiver", "subject"), ALLOWED)
async def test_allowed(shared: Broker, sender: str, receiver: str, subject: str) -> None:
    async with connected(shared, sender) as one, connected(shared, receiver) as other:
        inbox = await other.client.subscribe(subject)
        await other.settled()
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
        claims = await ingress.client.subscribe("b.i.*.*")
        await ingress.settled()
        asked = asyncio.ensure_future(
            worker.client.request("b.i.box.j", b"[0,1]", timeout=PATIENCE)
        )
        await (await claims.next_msg(timeout=PATIENCE)).respond(b"{")
        assert (await asked).data == b"{"

        for process in (worker, ingress):
            pings = await process.client.subscribe("$SRV.PING")
            await process.settled()
            asked = asyncio.ensure_future(admin.client.request("$SRV.PING", timeout=PATIENCE))
            await (await pings.next_msg(timeout=PATIENCE)).respond(b"here")
            assert (await asked).data == b"here"
            await pings.unsubscribe()
            assert process.refused.empty()


async def test_a_worker_pulls_and_acks(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        async with (
            connected(running, "admin") as admin,
            connected(running, "ingress") as ingress,
            connected(running, "worker") as worker,
        ):
            js = admin.client.jetstream()
            await js.add_stream(name="JOBS", subjects=[subjects.ALL_JOBS], retention="workqueue")
            name = subjects.consumer("m", subjects.INTERACTIVE)
            config = topology.consumer("m", subjects.INTERACTIVE, 3.0, 1)
            made = await ingress.client.request(
                f"$JS.API.CONSUMER.CREATE.JOBS.{name}",
                json.dumps({"stream_name": "JOBS", "config": config}).encode(),
                timeout=PATIENCE,
            )
            assert "error" not in json.loads(made.data)
            await js.publish(subjects.jobs("m", subjects.INTERACTIVE, "acme"), b"job")
            pull = f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{name}"
            # Old style: an inbox of its own, as a pulled message keeps the subject of the job.
            job = await worker.client.request(pull, PULL, timeout=PATIENCE, old_style=True)
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
        heard = await system.client.subscribe("dead.m")
        own = await admin.client.subscribe("dead.m")
        await system.settled()
        await admin.client.publish("dead.m", b"x")
        assert (await own.next_msg(timeout=PATIENCE)).data == b"x"
        await system.settled()
        assert heard.pending_msgs == 0


# The end of a connection

CLIENT = """
import asyncio, json, sys
import nats
async def main():
    url, user, password, name = json.loads(sys.stdin.readline())
    client = await nats.connect(url, user=user, password=password, name=name)
    print(client.client_id, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def _killed_worker(login: list[str]) -> tuple[int, float]:
    """Connects a process, kills it; the number of its connection and the moment (perf_counter)."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{json.dumps(login)}\n".encode())
    number = int(await worker.stdout.readline())
    killed = time.perf_counter()
    worker.kill()
    await worker.wait()
    return number, killed


async def test_the_ingress_hears_at_once_that_a_worker_died(shared: Broker) -> None:
    name = "headrace-worker/box a model"
    heard: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait((time.perf_counter(), json.loads(message.data)))

    async with connected(shared, "ingress") as ingress:
        await ingress.client.subscribe(subjects.DISCONNECTS, cb=hear)
        await ingress.settled()
        waits = []
        for _ in range(3):
            number, killed = await _killed_worker([shared.url, *shared.users["worker"], name])
            event: Any = {"client": {"id": None}}
            while event["client"]["id"] != number:
                at, event = await asyncio.wait_for(heard.get(), PATIENCE)
            waits.append((at - killed) * 1e3)
            client = event["client"]
            assert (client["name"], client["user"], client["acc"]) == (name, "worker", "MEMBERS")
            assert (client["kind"], client["client_type"]) == ("Client", "nats")
            assert event["reason"] == "Client Closed"
        print("kill -9 to disconnect event:", ", ".join(f"{wait:.1f} ms" for wait in waits))
        assert ingress.refused.empty()


async def test_the_login_of_another_role_is_said_to_be_that(shared: Broker) -> None:
    user, password = shared.users["worker"]
    login = Nats(url=shared.url, user=user, password=SecretStr(password))
    bus = await buses.connect(login, "test", INBOXES["worker"])
    try:
        with pytest.raises(BusDenied, match="the login of another role"):
            await bus.api("STREAM.DELETE.JOBS", timeout=0.5)
    finally:
        await bus.close()


async def test_an_ingress_with_a_workers_login_ends_with_a_line(shared: Broker) -> None:
    user, password = shared.users["worker"]
    where = shared.url.replace("://", f"://{user}:{password}@")
    async with asyncio.timeout(60):
        code, _, said = await forks.run("ingress", "--nats", where, "--port", "0")
    assert code == 1
    last = said.splitlines()[-1]
    assert last.startswith("headrace: $JS.API.")
    assert "is it the login of another role?" in last
    assert password not in said

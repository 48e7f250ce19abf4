"""What an operator sees with NATS' own tools and Prometheus: names that need no legend."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from schemas import nodes, subjects
from schemas.nodes import Card
from schemas.settings import outside
from tests import forks
from tests.fabric import PATIENCE, Fabric, Process, ask


async def test_streams_consumers_connections_and_services_read_well(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker("echo://?model=llama3.2:3b", {"worker.node": "attic"})
    await fabric.served("llama3.2:3b")
    bus = await fabric.admin()
    try:
        consumer = await bus.api("CONSUMER.INFO.JOBS.llama3,2~3b-i4")
        assert consumer["config"]["description"] == "llama3.2:3b (interactive)"
        assert consumer["config"]["metadata"]["headrace.model"] == "llama3.2:3b"
        assert consumer["config"]["priority_policy"] == "prioritized"
        found = [
            json.loads((await bus.request(f"$SRV.INFO.{name}")).data)
            for name in ("headrace-ingress", "headrace-worker")
        ]
        assert found[1]["metadata"]["node"] == "attic"
        assert found[1]["description"] == "Headrace worker on attic for echo"
        assert found[0]["description"].startswith("Headrace ingress at 127.0.0.1:")
    finally:
        await bus.close()
    async with fabric.session.get(fabric.broker.http_url + "/connz") as answer:
        names = [row.get("name", "") for row in (await answer.json())["connections"]]
    assert "headrace-worker/attic echo" in names
    assert any(name.startswith("headrace-ingress/in-") for name in names)


async def test_metrics(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    await fabric.post(ask("one two three"))
    await fabric.post({**ask("hi"), "model": "nobody"})
    async with fabric.session.get(fabric.url + "/metrics") as answer:
        text = await answer.text()
    path = 'endpoint="/v1/chat/completions",model="echo",status="200"'
    assert f"headrace_requests_total{{{path}}} 1.0" in text
    assert 'headrace_tokens_total{kind="completion",model="echo"} 3.0' in text
    assert 'headrace_errors_total{code="model_not_found"} 1.0' in text
    for name in (
        "ttft_seconds",
        "queue_wait_seconds",
        "request_duration_seconds",
        "jobs_in_flight",
    ):
        assert f"headrace_{name}" in text


async def test_worker_metrics(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    line = await worker.logged("worker.metrics")
    await fabric.served("echo")
    await fabric.post(ask("one two three"))
    await worker.logged("runner.ended")
    card = await heard(fabric)
    async with fabric.session.get(f"http://{card.metrics}/metrics") as answer:
        text = await answer.text()
    assert line["url"] == f"http://{card.metrics}/metrics"
    assert 'headrace_attempts_total{end="ok",model="echo"} 1.0' in text
    assert 'headrace_slots{engine="echo"} 4.0' in text


async def heard(fabric: Fabric) -> Card:
    """The next card of any worker."""
    cards = asyncio.Queue[Card]()
    bus = await fabric.admin()
    try:
        await bus.subscribe(
            subjects.ALL_CARDS,
            lambda each: cards.put_nowait(nodes.heard(each.subject, each.data)),
        )
        return await cards.get()
    finally:
        await bus.close()


async def test_metrics_are_not_there_for_a_page_whose_name_leads_here(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker()
    pages = [(await worker.logged("worker.metrics"))["url"], f"{ingress.url}/metrics"]
    for page in pages:
        async with fabric.session.get(page) as answer:
            assert answer.status == 200
        async with fabric.session.get(page, headers={"Host": "evil.example:80"}) as answer:
            assert answer.status == 421
            assert "headrace_" not in await answer.text()


async def test_a_password_in_the_command_line_is_seen_by_nobody(fabric: Fabric) -> None:
    """The one that `ps` shows to each user of the machine."""
    await fabric.ingress()
    user, password = fabric.broker.users["worker"]
    login = fabric.broker.url.replace("//", f"//{user}:{password}@")
    process = Process(
        "worker", await forks.started_anew(["worker", "--nats", login, "--engine", "echo://"])
    )
    fabric.processes.append(process)
    await process.logged("engine.ready")
    shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    assert password not in shown
    assert fabric.broker.url.partition("//")[2] in shown


async def test_in_words_a_worker_says_what_it_does(fabric: Fabric) -> None:
    """What it is connected to and serves, what failed and what to do, and that it ends."""
    user, password = fabric.broker.users["worker"]
    service = {"HEADRACE_PORT": "tcp://10.3.0.7:8080", "HEADRACE_NATS_SERVICE_HOST": "10.3.0.7"}
    login = {"HEADRACE_NATS__USER": user, "HEADRACE_NATS__PASSWORD": password}
    engines = ["--engine", "echo://?model=m", "--engine", "gone=http://127.0.0.1:1"]
    fork = await forks.start(
        ["worker", "--nats", fabric.broker.url, "--node", "attic", "--log", "console", *engines],
        {**outside(), **service, **login},
    )
    said = list[str]()

    async def until(*wanted: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not all(any(each in line for line in said) for each in wanted):
                line = await fork.stderr.readline()
                assert line, said
                said.append(line.decode())

    await until(
        " passed over, as Kubernetes sets it for a Service: HEADRACE_NATS_SERVICE_HOST, HEAD",
        " metrics at http://127.0.0.1:",
        f" connected to the broker at {fabric.broker.url} as {user}",
        " worker attic of echo,gone, release ",
        " warning: engine gone failed: gone cannot be reached: ",
        " Start it, or correct its url, which is http://127.0.0.1:1; it is tried again",
    )
    await fabric.ingress()  # it makes the stream that the worker waits for
    await until(" engine echo is ready, 4 slots: m")
    fork.send_signal(signal.SIGTERM)
    await until(" stops: takes no new work, nothing left to finish", " ended; nothing is left")
    assert await fork.wait() == 0

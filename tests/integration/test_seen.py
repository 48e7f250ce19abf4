"""What an operator sees with NATS' own tools and Prometheus: names that need no legend."""

from __future__ import annotations

import json

from tests.fabric import Fabric, ask


async def test_streams_consumers_connections_and_services_read_well(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker("echo://?model=llama3.2:3b", {"worker.node": "attic"})
    await fabric.served("llama3.2:3b")
    bus = await fabric.admin()
    try:
        consumer = await bus.api("CONSUMER.INFO.JOBS.llama3,2~3b-i3")
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
    for name in ("ttft_seconds", "queue_wait_seconds", "request_seconds", "in_flight"):
        assert f"headrace_{name}" in text


async def test_worker_metrics(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    line = await worker.logged("worker.metrics")
    await fabric.served("echo")
    await fabric.post(ask("one two three"))
    await worker.logged("runner.ended")
    async with fabric.session.get(line["url"]) as answer:
        text = await answer.text()
    assert 'headrace_attempts_total{end="ok",model="echo"} 1.0' in text
    assert 'headrace_slots{engine="echo"} 4.0' in text

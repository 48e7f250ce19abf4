"""Traces over real processes and a real broker, told to a receiver of OpenTelemetry's protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.otlp.receiver import Receiver, Span, receiver
from tests.doubles.vllm.server import Vllm
from tests.fabric import PATIENCE, Fabric, ask, fabric

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{SPAN}-01"
SECRET = "pssst, a prompt"


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest_asyncio.fixture
async def setup(
    tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fabric]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    with brokers.start(tmp_path / "broker", 0, 0) as broker:
        async with fabric(broker, tmp_path, {"otel.endpoint": collector.url}) as made:
            yield made


def by_name(spans: list[Span]) -> dict[str, Span]:
    found = {span.name: span for span in spans}
    assert len(found) == len(spans), [span.name for span in spans]
    return found


async def test_one_request_is_one_trace(setup: Fabric, collector: Receiver) -> None:
    ingress = await setup.ingress()
    await setup.worker()
    await setup.served("echo")
    answer = await setup.stream(ask(SECRET))
    assert answer[0] == 200
    spans = await collector.named("chat echo", "queue", "attempt", "claim", "engine")
    found = by_name(spans)
    assert set(found) == {"chat echo", "queue", "attempt", "claim", "engine"}
    chat, attempt = found["chat echo"], found["attempt"]
    assert (chat.kind, chat.parent, chat.service) == ("server", "", "headrace-ingress")
    assert {found["queue"].parent, attempt.parent} == {chat.id}
    assert {found["claim"].parent, found["engine"].parent} == {attempt.id}
    assert (found["engine"].kind, found["engine"].service) == ("client", "headrace-worker")
    assert chat.begin <= found["queue"].begin <= attempt.begin <= attempt.end <= chat.end
    assert attempt.events == ("first_token",)
    assert not any(span.failed for span in spans)
    tokens = chat.attributes["gen_ai.usage.output_tokens"]
    assert tokens == found["engine"].attributes["gen_ai.usage.output_tokens"] > 0
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headrace",
        "gen_ai.request.model": "echo",
        "gen_ai.response.model": "echo",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("stop",),
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
    }
    assert expected.items() <= chat.attributes.items()
    assert SECRET.split(maxsplit=1)[0] not in str(collector.spans)
    line = await ingress.logged("request")
    assert (line["trace_id"], line["span_id"]) == (chat.trace, chat.id)


async def test_the_callers_span_is_the_parent(setup: Fabric, collector: Receiver) -> None:
    """The engine, which is another program, gets the place of the span that is told of it."""
    await setup.ingress()
    async with Vllm() as engine:
        await setup.worker(engine.url, kind="vllm")
        [model] = await models(setup)
        headers = {"traceparent": CALLER, "tracestate": "vendor=abc"}
        assert (await setup.post(ask("one", model=model), **headers))[0] == 200
        spans = by_name(await collector.named(f"chat {model}", "engine", "claim"))
        chat = spans[f"chat {model}"]
        assert (chat.trace, chat.parent, chat.state) == (TRACE, SPAN, "vendor=abc")
        [sent] = traced(engine)
        assert sent["traceparent"] == f"00-{TRACE}-{spans['engine'].id}-01"
        assert sent["tracestate"] == "vendor=abc"


def traced(engine: Vllm) -> list[dict[str, str]]:
    """The heads of requests that had a trace."""
    return [head for head in engine.heads if "traceparent" in head]


async def models(setup: Fabric) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        while not (found := await setup.models()):
            await asyncio.sleep(0.01)
    return found


async def test_what_the_caller_does_not_sample_is_not_told(
    setup: Fabric, collector: Receiver
) -> None:
    ingress = await setup.ingress()
    await setup.worker()
    await setup.served("echo")
    status, *_ = await setup.post(ask("one"), traceparent=f"00-{TRACE}-{SPAN}-00")
    assert status == 200
    assert (await ingress.logged("request"))["trace_id"] == TRACE
    await setup.post(ask("two"))
    spans = await collector.named("chat echo", "queue", "attempt", "claim", "engine")
    assert {span.trace for span in collector.spans} == {spans[0].trace} != {TRACE}
    measured = "gen_ai.server.request.duration"
    await collector.counted(measured, 2)


async def test_a_lost_worker_leaves_two_attempts(setup: Fabric, collector: Receiver) -> None:
    await setup.ingress()
    first = await setup.worker("echo://?model=echo&first_ms=600000")
    await setup.served("echo")
    asked = asyncio.create_task(setup.stream(ask("one two")))
    await first.logged("runner.began")
    await setup.worker()
    await first.kill()
    assert await asked == (200, "one two", True)
    spans = await collector.named("chat echo", "attempt", "attempt", "claim", "engine")
    chat = next(span for span in spans if span.name == "chat echo")
    lost, last = [span for span in spans if span.name == "attempt"]
    assert {lost.parent, last.parent} == {chat.id}
    assert (lost.failed, lost.attributes["error.type"]) == (True, "lost")
    assert not last.failed
    assert lost.end <= last.begin
    assert [span.parent for span in spans if span.name == "engine"] == [last.id]
    assert [span.parent for span in spans if span.name == "queue"] == [chat.id] * 2
    assert chat.attributes["headrace.attempts"] == 2


async def test_a_refusal_is_told(setup: Fabric, collector: Receiver) -> None:
    await setup.ingress()
    status, *_ = await setup.post(ask("one", model="no-such"))
    assert status == 404
    [refused] = await collector.named("chat")
    assert refused.attributes["http.response.status_code"] == 404
    assert refused.attributes["error.type"] == "model_not_found"
    assert not refused.failed


async def test_metrics_are_told(setup: Fabric, collector: Receiver) -> None:
    await setup.ingress()
    await setup.worker()
    await setup.served("echo")
    for _ in range(3):
        await setup.stream(ask("one two three"))
    names = (
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    )
    for name in names:
        await collector.counted(name, 3)
        [point] = collector.metric(name)
        assert point.unit == "s"
        assert point.attributes["gen_ai.operation.name"] == "chat"
        assert point.attributes["gen_ai.request.model"] == "echo"


async def test_what_waits_is_sent_at_the_end(
    setup: Fabric, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=lab%20one")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20unspoken")
    ingress = await setup.ingress()
    await setup.worker()
    await setup.served("echo")
    await setup.post(ask("one"))
    assert not collector.spans
    assert await ingress.stop() == 0
    assert {span.name for span in collector.spans} == {"chat echo", "queue", "attempt"}
    assert collector.resources[0]["deployment.environment"] == "lab one"
    assert collector.resources[0]["service.name"] == "mine"
    assert collector.headers[0]["authorization"] == "Bearer unspoken"
    assert "unspoken" not in json.dumps(ingress.lines)


async def test_an_endpoint_that_is_away_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with brokers.start(tmp_path / "broker", 0, 0) as broker:
        away: dict[str, Any] = {"otel.endpoint": "http://127.0.0.1:1", "otel.most": 16}
        async with fabric(broker, tmp_path, away) as made:
            ingress = await made.ingress()
            await made.worker()
            await made.served("echo")
            await ingress.logged("otel.on")
            await made.post(ask("one"))
            await ingress.logged("otel.away")
            for _ in range(20):
                assert (await made.post(ask("one")))[0] == 200
            async with made.session.get(f"{made.url}/metrics") as page:
                told = await page.text()
            dropped = [row for row in told.splitlines() if row.startswith("headrace_otel_dropped")]
            assert any('what="records"' in row and float(row.split()[1]) > 0 for row in dropped)
            assert ingress.count("otel.away") == 1
            assert await ingress.stop() == 0


async def test_it_costs_nothing_while_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No package of it is imported, and a caller's trace is passed on and logged all the same."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with brokers.start(tmp_path / "broker", 0, 0) as broker:
        async with fabric(broker, tmp_path) as made, Vllm() as engine:
            made.fresh = True
            ingress = await made.ingress()
            worker = await made.worker(engine.url, kind="vllm")
            [model] = await models(made)
            await made.post(ask("zero", model=model))
            assert not traced(engine)
            await made.post(ask("one", model=model), traceparent=CALLER)
            assert [head["traceparent"] for head in traced(engine)] == [CALLER]
            line = await ingress.logged("request", trace_id=TRACE)
            assert line["span_id"] == SPAN
            for process in (ingress, worker):
                assert await process.stop() == 0
                imported = "".join(process.noise)
                assert "import time:" in imported
                assert "opentelemetry" not in imported
                assert "google.protobuf" not in imported

"""What a trace shows of providers: their calls, and a race that one of two wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.doubles.otlp.receiver import Receiver, receiver
from tests.doubles.providers import OpenAI
from tests.fabric import ask

MODEL = "gpt-4o-mini"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest_asyncio.fixture
async def collector(setup: CloudSetup, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    async with receiver() as made:
        setup.fabric.common["otel.endpoint"] = made.url
        yield made


async def test_a_call_of_a_provider(setup: CloudSetup, sim: OpenAI, collector: Receiver) -> None:
    setup.provider("sim", sim)
    setup.price("sim", MODEL)
    setup.route("paid", [f"sim/{MODEL}"])
    await setup.grant(1_000_000)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("paid")
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "secret=1"}
    asked = ask("#a one two", model="paid", max_tokens=9)
    assert (await setup.fabric.post(asked, **headers))[0] == 200
    call = f"chat {MODEL}"
    spans = {span.name: span for span in await collector.named("chat paid", "claim", call)}
    assert set(spans) == {"chat paid", "queue", "attempt", "claim", call}
    assert spans["chat paid"].parent == SPAN
    assert {spans["claim"].parent, spans[call].parent} == {spans["attempt"].id}
    assert spans["attempt"].attributes["headrace.by"] == "provider"
    assert (spans[call].kind, spans[call].service) == ("client", "headrace-fallback")
    told = spans[call].attributes
    assert told["gen_ai.provider.name"] == "compatible"
    assert told["gen_ai.request.model"] == MODEL
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["server.address"] == "127.0.0.1"
    [sent] = sim.record.requests
    assert sent.headers["traceparent"] == f"00-{TRACE}-{spans[call].id}-01"
    assert "tracestate" not in sent.headers
    await collector.counted("gen_ai.client.operation.duration", 1)
    used = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in collector.metric("gen_ai.client.token.usage")
    }
    assert used["output"] == told["gen_ai.usage.output_tokens"]


async def _hedged(setup: CloudSetup, sim: OpenAI) -> None:
    """A worker that does not begin to answer, and a provider that is asked, too."""
    setup.provider("sim", sim)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], model="echo", hedge_after=0.3)
    await setup.grant(1_000_000)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("echo")
    await setup.fabric.worker("echo://?model=echo&first_ms=600000")
    await setup.fabric.served("echo")


async def test_a_race_is_two_attempts(setup: CloudSetup, sim: OpenAI, collector: Receiver) -> None:
    await _hedged(setup, sim)
    answer = await setup.fabric.stream(ask("#h one two", max_tokens=9))
    assert answer == (200, "#h one two", True)
    wanted = "chat echo", "attempt", "attempt", "claim", "claim", "engine", f"chat {MODEL}"
    spans = await collector.named(*wanted)
    attempts = {span.attributes["headrace.by"]: span for span in spans if span.name == "attempt"}
    assert attempts["worker"].attributes["error.type"] == "lost"
    assert not attempts["provider"].failed
    parents = {span.name: span.parent for span in spans}
    assert parents["engine"] == attempts["worker"].id
    assert parents[f"chat {MODEL}"] == attempts["provider"].id


async def test_a_client_that_leaves_ends_both(
    setup: CloudSetup, sim: OpenAI, collector: Receiver
) -> None:
    """The worker and the provider that has the copy."""
    await _hedged(setup, sim)
    sim.pace.may_answer.clear()
    asked = asyncio.create_task(setup.fabric.post(ask("#w one", max_tokens=9)))
    await sim.seen(1)
    asked.cancel()
    await asyncio.wait({asked})
    spans = await collector.named("chat echo", "attempt", "attempt", f"chat {MODEL}")
    told = {span.name: span.attributes.get("error.type") for span in spans}
    assert told["chat echo"] == "client_gone"
    assert told[f"chat {MODEL}"] == "cancelled"
    sim.pace.may_answer.set()

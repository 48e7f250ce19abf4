"""What no worker takes is answered by a provider, once, and paid."""

from __future__ import annotations

import asyncio
import time

from tests.acceptance.cloud.cloud_setup import INPUT, OUTPUT, SECRET, CloudSetup
from tests.doubles.providers import Anthropic, OpenAI
from tests.fabric import ask

GRANTED = 1_000_000
MODEL = "gpt-4o-mini"


async def _open(setup: CloudSetup, sim: OpenAI, **route: object) -> None:
    setup.provider("sim", sim)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], **route)
    await setup.grant(GRANTED)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("echo")


async def test_without_a_worker_the_provider_answers_after_the_claim_deadline(
    setup: CloudSetup, sim: OpenAI
) -> None:
    await _open(setup, sim, model="echo", claim=1.0)
    began = time.monotonic()
    status, body, headers = await setup.fabric.post(ask("#a one two", max_tokens=10))
    assert (status, body["choices"][0]["message"]["content"]) == (200, "#a one two")
    assert body["model"] == "echo"
    [sent] = sim.record.with_text("#a")
    assert sent.at - began >= 1.0
    assert headers["x-headrace-served-by"] == "provider:sim"
    cost = sent.used.input * INPUT + sent.used.output * OUTPUT
    assert headers["x-headrace-cost"] == f"0.{cost:06d} USD"
    await setup.settled(GRANTED - cost)
    await setup.fabric.idle()


async def test_a_stream_says_its_cost_at_its_end(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    request = {**ask("#s one two", max_tokens=10), "stream": True}
    url = f"{setup.fabric.url}/v1/chat/completions"
    async with setup.fabric.session.post(url, json=request, headers=setup.fabric.headers) as answer:
        text = (await answer.read()).decode()
    assert answer.headers["x-headrace-served-by"] == "provider:sim"
    assert "x-headrace-cost-limit" in answer.headers
    [sent] = sim.record.with_text("#s")
    cost = sent.used.input * INPUT + sent.used.output * OUTPUT
    assert text.endswith(f": x-headrace-cost 0.{cost:06d} USD\n\ndata: [DONE]\n\n")
    await setup.settled(GRANTED - cost)
    await setup.fabric.idle()


async def test_a_worker_that_is_free_is_not_paid_for(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim, model="echo", claim=20)
    await setup.fabric.worker()
    await setup.fabric.served("echo")
    answers = await asyncio.gather(*(setup.fabric.post(ask(f"#{i} x")) for i in range(20)))
    assert {answer[2]["x-headrace-served-by"].partition(":")[0] for answer in answers} == {"node"}
    assert {answer[2]["x-headrace-cost"] for answer in answers} == {"0"}
    assert sim.record.connections == 0


async def test_choices_of_one_request_are_paid_together_or_not_at_all(setup: CloudSetup) -> None:
    """Each is a job of its own at a provider that gives one choice; the limit is for all."""
    async with Anthropic(key=SECRET) as sim:
        setup.provider("a", sim, kind="anthropic")
        setup.price("a", "claude-haiku-4-5")
        setup.route("echo", ["a/claude-haiku-4-5"], max_price=0.01)
        await setup.grant(3000)
        await setup.ingress()
        await setup.fallback()
        await setup.provided("echo")
        body = ask("#n one two", max_tokens=200)  # 700 at worst
        status, answer, _ = await setup.fabric.post({**body, "n": 6})
        assert (status, answer["error"]["code"]) == (402, "insufficient_credits")
        status, answer, _ = await setup.fabric.post({**body, "n": 50})
        assert (status, answer["error"]["code"]) == (400, "no_provider")
        await setup.settled(3000)
        assert not sim.record.requests
        status, answer, headers = await setup.fabric.post({**body, "n": 4})
        assert status == 200, answer
        assert len(answer["choices"]) == 4
        cost = sum(INPUT * e.used.input + OUTPUT * e.used.output for e in sim.record.requests)
        assert headers["x-headrace-cost"] == f"0.{cost:06d} USD"
        await setup.settled(3000 - cost)
        await setup.fabric.idle()

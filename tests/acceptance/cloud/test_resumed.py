"""A worker that dies after it has begun: the provider goes on where the client's text ends, if its
API can, and the client gets one stream; otherwise it is told that its stream is broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import INPUT, OUTPUT, SECRET, CloudSetup
from tests.acceptance.conftest import RealLlama
from tests.doubles.providers import Anthropic, Continuing, OpenAI, Provider, refuse
from tests.fabric import KEY, Process, ask, first_to_log

GRANTED = 1_000_000
MODEL = "some-model"
CLAUDE = "claude-haiku-4-5"
WORDS = "#w " + " ".join(f"w{number}" for number in range(30))
SLOWLY = "echo://?model=echo&token_ms=40"


@pytest_asyncio.fixture
async def other() -> AsyncIterator[Continuing]:
    async with Continuing(key=SECRET) as made:
        yield made


async def _open(setup: CloudSetup, sim: Provider, model: str = MODEL, **settings: Any) -> Process:
    setup.provider("sim", sim, **settings)
    setup.price("sim", model)
    setup.route("echo", [f"sim/{model}"], model="echo", claim=0.2)
    await setup.grant(GRANTED)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("echo")
    worker = await setup.fabric.worker(SLOWLY)
    await setup.fabric.served("echo")
    return worker


async def _events(
    setup: CloudSetup, body: dict[str, Any], after: int, end: Any
) -> tuple[str, list[Any]]:
    """(the whole stream, its events); `end` is awaited once `after` pieces of text have come."""
    url = f"{setup.fabric.url}/v1/chat/completions"
    sent = {**body, "stream": True}
    text, come, found = "", 0, []
    async with setup.fabric.session.post(url, json=sent, headers=setup.fabric.headers) as answer:
        assert answer.headers["x-headrace-served-by"].startswith("node:")
        async for line in answer.content:
            text += line.decode()
            if line.startswith(b"data: {"):
                found.append(json.loads(line[6:]))
                come += bool((found[-1].get("choices") or [{}])[0].get("delta", {}).get("content"))
                if come == after:
                    come += 1
                    await end()
    return text, found


def _said(events: list[Any]) -> str:
    return "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices") or ())


@pytest.mark.parametrize("way", ["last", "prefix", "flag"])
async def test_the_provider_goes_on(setup: CloudSetup, other: Continuing, way: str) -> None:
    other.way = way
    worker = await _open(setup, other, resumes=way)
    usage = {"stream_options": {"include_usage": True}}
    text, events = await _events(setup, ask(WORDS, max_tokens=25, **usage), 5, worker.kill)
    whole = " ".join(WORDS.split()[:25])
    assert _said(events) == whole
    assert len({event["id"] for event in events}) == 1
    assert sum("role" in c["delta"] for e in events for c in e["choices"]) == 1
    ends = [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]]
    assert ends == ["length"]
    assert ": x-headrace-served-by provider:sim\n" in text
    assert text.count("data: [DONE]\n\n") == 1
    [sent] = other.record.requests
    begun = sent.body["messages"][-1]["content"]
    assert begun
    assert whole.startswith(begun)
    assert sent.body["max_tokens"] == 25 - len(begun.split())
    assert events[-1]["usage"]["completion_tokens"] == 25
    assert events[-1]["usage"]["prompt_tokens"] == len(WORDS.split())
    await setup.settled(GRANTED - sent.used.input * INPUT - sent.used.output * OUTPUT)
    await setup.fabric.idle()


async def test_messages_go_on_natively(setup: CloudSetup) -> None:
    async with Anthropic(key=SECRET) as sim:
        worker = await _open(setup, sim, CLAUDE, kind="anthropic")
        come = 0
        async with anthropic.AsyncAnthropic(base_url=setup.fabric.url, api_key=KEY) as client:
            said: Any = [{"role": "user", "content": WORDS}]
            async with client.messages.stream(model="echo", max_tokens=25, messages=said) as stream:
                async for _ in stream.text_stream:
                    come += 1
                    if come == 5:
                        await worker.kill()
                made = await stream.get_final_message()
        [block] = made.content
        assert block.type == "text"
        assert block.text == " ".join(WORDS.split()[:25])
        [sent] = sim.record.requests
        assert sent.body["messages"][-1]["role"] == "assistant"
        assert (made.stop_reason, made.usage.output_tokens) == ("max_tokens", 25)
        await setup.settled(GRANTED - sent.used.input * INPUT - sent.used.output * OUTPUT)
        await setup.fabric.idle()


async def test_one_that_cannot_is_not_asked(setup: CloudSetup, sim: OpenAI) -> None:
    worker = await _open(setup, sim, "gpt-4o-mini", kind="openai")
    _, events = await _events(setup, ask(WORDS), 5, worker.kill)
    assert events[-1]["error"]["code"] == "stream_interrupted"
    assert WORDS.startswith(_said(events))
    assert sim.record.connections == 0
    await setup.settled(GRANTED)
    await setup.fabric.idle()


async def test_one_that_will_not_says_why(setup: CloudSetup, other: Continuing) -> None:
    worker = await _open(setup, other, resumes="last")
    other.faults.add(refuse(500), refuse(500), refuse(500))
    _, events = await _events(setup, ask(WORDS), 5, worker.kill)
    error = events[-1]["error"]
    assert error["code"] == "stream_interrupted"
    assert "no provider could continue it" in error["message"]
    await setup.settled(GRANTED)
    await setup.fabric.idle()


async def test_two_workers_do_not_repeat_it(setup: CloudSetup, other: Continuing) -> None:
    """The broker gives the job to the next worker, which cannot go on, and is told that it is
    gone."""
    first = await _open(setup, other, resumes="last")
    second = await setup.fabric.worker(f"{SLOWLY}&resume=0", slots=3)
    await setup.fabric.slots("echo", 4 + 3)  # else the ingress may not know what the second cannot

    async def die() -> None:
        workers = [first, second]
        await workers[await first_to_log(workers, "runner.began")].kill()

    _, events = await _events(setup, ask(WORDS, max_tokens=20), 5, die)
    assert _said(events) == " ".join(WORDS.split()[:20])
    assert len(other.record.requests) == 1
    await setup.fabric.idle()


async def test_a_real_model_goes_on_from_a_real_one(setup: CloudSetup, llama: RealLlama) -> None:
    """The same weights here and there, and the likeliest token each time: so the text is the one
    that a single server writes."""
    body = {
        "model": "near",
        "messages": [{"role": "user", "content": "Tell me a story about a mill on a river."}],
        "max_tokens": 60,
        "temperature": 0,
    }
    status, alone = llama.post("/v1/chat/completions", {**body, "model": llama.model})
    assert status == 200
    setup.tables += (
        f'[[providers]]\nname = "far"\nkind = "compatible"\nurl = "{llama.url}/v1"\n'
        'resumes = "last"\n'
    )
    setup.price("far", llama.model)
    setup.route("near", [f"far/{llama.model}"], model=llama.model, claim=0.2)
    await setup.grant(GRANTED)
    await setup.ingress()
    await setup.fallback()
    await setup.provided("near")
    worker = await setup.fabric.worker(llama.url, kind="llamacpp")
    await setup.fabric.served(llama.model)
    text, events = await _events(setup, body, 10, worker.kill)
    assert _said(events) == json.loads(alone)["choices"][0]["message"]["content"]
    assert ": x-headrace-served-by provider:far\n" in text
    await setup.fabric.idle()

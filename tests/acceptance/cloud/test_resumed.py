"""A worker that dies after it has begun: the provider goes on where the client's text ends, if its
API can, and the client gets one stream; otherwise it is told that its stream is broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_fabric import INPUT, OUTPUT, SECRET, House
from tests.acceptance.conftest import Llama
from tests.doubles.providers import Anthropic, Continuing, OpenAI, Provider, refuse
from tests.fabric import KEY, Process, ask

GRANTED = 1_000_000
MODEL = "some-model"
CLAUDE = "claude-haiku-4-5"
WORDS = "#w " + " ".join(f"w{number}" for number in range(30))
SLOWLY = "echo://?model=echo&token_ms=40"


@pytest_asyncio.fixture
async def other() -> AsyncIterator[Continuing]:
    async with Continuing(key=SECRET) as made:
        yield made


async def _open(here: House, sim: Provider, model: str = MODEL, **settings: Any) -> Process:
    here.provider("sim", sim, **settings)
    here.price("sim", model)
    here.route("echo", [f"sim/{model}"], model="echo", claim=0.2)
    await here.grant(GRANTED)
    await here.ingress()
    await here.fallback()
    await here.provided("echo")
    worker = await here.fabric.worker(SLOWLY)
    await here.fabric.served("echo")
    return worker


async def _events(here: House, body: dict[str, Any], after: int, end: Any) -> tuple[str, list[Any]]:
    """(the whole stream, its events); `end` is awaited once `after` pieces of text have come."""
    url = f"{here.fabric.url}/v1/chat/completions"
    sent = {**body, "stream": True}
    text, come, found = "", 0, []
    async with here.fabric.session.post(url, json=sent, headers=here.fabric.headers) as answer:
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
async def test_the_provider_goes_on(here: House, other: Continuing, way: str) -> None:
    other.way = way
    worker = await _open(here, other, resumes=way)
    usage = {"stream_options": {"include_usage": True}}
    text, events = await _events(here, ask(WORDS, max_tokens=25, **usage), 5, worker.kill)
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
    await here.settled(GRANTED - sent.used.input * INPUT - sent.used.output * OUTPUT)
    await here.fabric.idle()


async def test_messages_go_on_natively(here: House) -> None:
    async with Anthropic(key=SECRET) as sim:
        worker = await _open(here, sim, CLAUDE, kind="anthropic")
        come = 0
        async with anthropic.AsyncAnthropic(base_url=here.fabric.url, api_key=KEY) as client:
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
        await here.settled(GRANTED - sent.used.input * INPUT - sent.used.output * OUTPUT)
        await here.fabric.idle()


async def test_one_that_cannot_is_not_asked(here: House, sim: OpenAI) -> None:
    worker = await _open(here, sim, "gpt-4o-mini", kind="openai")
    _, events = await _events(here, ask(WORDS), 5, worker.kill)
    assert events[-1]["error"]["code"] == "stream_broken"
    assert WORDS.startswith(_said(events))
    assert sim.record.connections == 0
    await here.settled(GRANTED)
    await here.fabric.idle()


async def test_one_that_will_not_says_why(here: House, other: Continuing) -> None:
    worker = await _open(here, other, resumes="last")
    other.faults.add(refuse(500), refuse(500), refuse(500))
    _, events = await _events(here, ask(WORDS), 5, worker.kill)
    error = events[-1]["error"]
    assert error["code"] == "stream_broken"
    assert "no provider could continue it" in error["message"]
    await here.settled(GRANTED)
    await here.fabric.idle()


async def test_two_workers_do_not_repeat_it(here: House, other: Continuing) -> None:
    """The broker gives the job to the next worker, which is told that it is gone."""
    first = await _open(here, other, resumes="last")
    second = await here.fabric.worker(SLOWLY)

    async def die() -> None:
        await (first if first.count("runner.began") else second).kill()

    _, events = await _events(here, ask(WORDS, max_tokens=20), 5, die)
    assert _said(events) == " ".join(WORDS.split()[:20])
    assert len(other.record.requests) == 1
    await here.fabric.idle()


async def test_a_real_model_goes_on_from_a_real_one(here: House, llama: Llama) -> None:
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
    here.tables += (
        f'[[providers]]\nname = "far"\nkind = "compatible"\nurl = "{llama.url}/v1"\n'
        'resumes = "last"\n'
    )
    here.price("far", llama.model)
    here.route("near", [f"far/{llama.model}"], model=llama.model, claim=0.2)
    await here.grant(GRANTED)
    await here.ingress()
    await here.fallback()
    await here.provided("near")
    worker = await here.fabric.worker(llama.url, kind="llamacpp")
    await here.fabric.served(llama.model)
    text, events = await _events(here, body, 10, worker.kill)
    assert _said(events) == json.loads(alone)["choices"][0]["message"]["content"]
    assert ": x-headrace-served-by provider:far\n" in text
    await here.fabric.idle()

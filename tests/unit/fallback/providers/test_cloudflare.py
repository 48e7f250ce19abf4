"""Cloudflare Workers AI by data alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallback.cost.spent import NOTHING
from fallback.providers.base import Provider, ProviderFault
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Cloudflare, refuse
from tests.unit.fallback.providers.tasks import ASKED_FOR, KEY, chat, opened, same, task

STREAMED = pytest.mark.parametrize("stream", [False, True])
LLAMA, BGE = "@cf/meta/llama-3.1-8b-instruct", "@cf/baai/bge-m3"


@pytest.fixture
async def sim() -> AsyncIterator[Cloudflare]:
    async with Cloudflare(key=KEY) as found:
        yield found


@pytest.fixture
async def cloud(sim: Cloudflare, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    url = sim.url + "/client/v4/accounts/{account_id}/ai/v1"
    url = url.replace("{account_id}", sim.account)
    async with opened(monkeypatch, "cloudflare", url) as provider:
        yield provider


@STREAMED
async def test_chat(cloud: Provider, sim: Cloudflare, stream: bool) -> None:
    sink = RecordingSink()
    spent = await cloud.call(chat(LLAMA, stream=stream), sink)
    assert same(spent, sim)
    if stream:
        assert b'"usage"' not in sink.body
        assert sink.events[-1]["choices"][0]["finish_reason"] == "stop"
    assert b'"model":"' + ASKED_FOR.encode() in sink.body


async def test_embeddings(cloud: Provider, sim: Cloudflare) -> None:
    sink = RecordingSink()
    await cloud.call(task("/v1/embeddings", BGE, input=["a b", "c"]), sink)
    assert [len(each["embedding"]) for each in sink.document["data"]] == [1024, 1024]


async def test_its_own_errors_are_read(cloud: Provider, sim: Cloudflare) -> None:
    sim.faults.add(refuse(400))
    sink = RecordingSink()
    assert await cloud.call(chat(LLAMA), sink) == NOTHING
    assert sink.status == 400
    assert "required properties" in sink.document["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refuse(429), "busy"),
        (refuse(429, code="3036"), "key"),
        (refuse(401), "key"),
        (refuse(404), "absent"),
        (refuse(500), "failed"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_its_faults(cloud: Provider, sim: Cloudflare, fault: object, reason: str) -> None:
    sim.faults.add(fault)  # type: ignore[arg-type]
    with pytest.raises(ProviderFault) as caught:
        await cloud.call(chat(LLAMA), RecordingSink())
    assert caught.value.reason == reason


async def test_an_unknown_model_is_our_configurations_fault(cloud: Provider) -> None:
    with pytest.raises(ProviderFault) as caught:
        await cloud.call(chat("@cf/meta/llama-none"), RecordingSink())
    assert caught.value.reason == "absent"


async def test_what_it_does_not_have(cloud: Provider) -> None:
    assert cloud.unfit(chat(LLAMA, n=2))
    assert cloud.unfit(chat(LLAMA, logprobs=True))
    assert cloud.unfit(chat(BGE))
    assert cloud.unfit(task("/v1/embeddings", BGE, input="a", dimensions=8))
    assert cloud.unfit(task("/v1/embeddings", BGE, input=["a"] * 101))
    assert cloud.endpoints("@cf/openai/whisper") == frozenset()

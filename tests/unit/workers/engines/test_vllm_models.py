"""What a vLLM serves, simulated from its recorded answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.doubles.drive import ask, chat, config, job, opened
from tests.doubles.vllm.server import Vllm
from workers.engines import KINDS
from workers.engines.base import EngineFault
from workers.engines.vllm import VllmEngine


@pytest.fixture
async def server() -> AsyncIterator[Vllm]:
    async with Vllm(max_num_seqs=2) as running:
        yield running


@pytest.fixture
async def engine(server: Vllm) -> AsyncIterator[VllmEngine]:
    async with serving(server) as made:
        yield made


def serving(server: Vllm) -> AbstractAsyncContextManager[VllmEngine]:
    return opened(VllmEngine(config("vllm", server.url)))


async def offered(server: Vllm, **more: Any) -> Any:
    async with server:
        made = VllmEngine(config("vllm", server.url, **more))
        async with opened(made):
            return await made.discover()


async def test_what_it_serves_is_asked_of_the_engine() -> None:
    offer = await offered(Vllm("some/tiny", context=2048))
    (model,) = offer.models

    assert KINDS["vllm"] is VllmEngine
    assert (model.id, model.context, model.modalities) == ("some/tiny", 2048, ("text",))
    assert {"chat", "completions", "responses", "messages", "logprobs", "n"} <= {*model.features}
    assert not {"embeddings", "tools", "vision", "rerank"} & {*model.features}
    assert "grammar" in {each.field for each in model.ignores}
    assert "models/tiny" not in str(offer), "the path that vLLM tells stays here"


@pytest.mark.parametrize("senses", [(), ("vision",), ("audio",), ("vision", "audio")])
async def test_tools_and_senses_are_tried(senses: tuple[str, ...]) -> None:
    (model,) = (await offered(Vllm(parser=True, senses=senses))).models

    assert "tools" in model.features
    assert model.modalities == ("text", *senses)
    assert [word for word in ("vision", "audio") if word in model.features] == list(senses)


async def test_an_embedding_model_has_no_chat() -> None:
    async with Vllm(embeds=True) as server, serving(server) as engine:
        (model,) = (await engine.discover()).models
        await engine.check()
        answer = await ask(engine, job("tiny", "/v1/embeddings"), {"input": ["a b", "c"]})
        refused = await ask(engine, job("tiny"), chat("x"))

    assert model.features == ("embeddings", "tokenize", "detokenize", "score", "pooling")
    assert len(answer.document["data"]) == 2
    assert refused.error["code"] == "unsupported_endpoint"


@pytest.mark.parametrize(("concurrency", "slots"), [(512.0, 32), (3.5, 3), (0.5, 1)])
async def test_slots_are_the_contexts_that_its_cache_holds(concurrency: float, slots: int) -> None:
    server = Vllm()
    server.concurrency = concurrency

    assert (await offered(server)).slots == slots
    assert (await offered(server, slots=7)).slots == 7


async def test_its_health_is_asked_of_its_engine_process(server: Vllm, engine: VllmEngine) -> None:
    assert await engine.probe()
    server.dead = True
    assert not await engine.probe()
    with pytest.raises(EngineFault, match="failed a small job"):
        await engine.check()


async def test_an_engine_that_hangs_fails_the_check(server: Vllm) -> None:
    class Impatient(VllmEngine):
        check_timeout = 0.05

    async with opened(Impatient(config("vllm", server.url))) as engine:
        server.may_generate.clear()
        with pytest.raises(EngineFault, match="did not answer") as caught:
            await engine.check()

    assert caught.value.away

"""What an Ollama serves, simulated from its source."""

from __future__ import annotations

import pytest

from tests.doubles.drive import CHAT, ask, chat, config, job
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from tests.unit.workers.engines.ollama.setup import EMBEDDINGS, models, serving, tiny
from workers.engines import KINDS
from workers.engines.base import EngineFault
from workers.engines.ollama.engine import OllamaEngine


async def test_models_with_what_they_can_do(server: Ollama, engine: OllamaEngine) -> None:
    offer = await engine.discover()
    writer, embedder = offer.models

    assert KINDS["ollama"] is OllamaEngine
    assert offer.slots == 1
    assert writer.modalities == ("text", "vision")
    wanted = {"chat", "completions", "responses", "messages", "tools", "vision", "json_schema"}
    assert wanted <= {*writer.features}
    assert embedder.features == ("embeddings",)
    assert {"n", "tool_choice"} <= {each.field for each in writer.ignores}
    assert writer.context == 0, "it tells no context length of a model that is not loaded"

    better = await engine.check()
    assert better is not None
    assert [m.context for m in better.models] == [2048, 0]
    assert [m.context for m in (await engine.discover()).models] == [2048, 0]


async def test_a_modelfile_tells_a_context_too() -> None:
    parameters = 'stop    "<|end|>"\nnum_ctx                        8192'
    told = Model("tiny:latest", parameters=parameters)
    async with Ollama(told) as server, serving(server) as engine:
        (model,) = (await engine.discover()).models

    assert model.context == 8192


async def test_models_of_a_remote_host_are_served_only_if_named() -> None:
    cloud = Model("big:cloud", remote="https://ollama.com:443")
    async with Ollama(*models(), cloud) as server:
        async with serving(server) as engine:
            listed = await engine.discover()
        async with serving(server, models=["big:cloud"], slots=3) as engine:
            wanted = await engine.discover()

    assert [model.id for model in listed.models] == ["tiny:latest", "minilm:latest"]
    assert ([model.id for model in wanted.models], wanted.slots) == (["big:cloud"], 3)


async def test_a_name_without_a_tag_means_the_latest(server: Ollama) -> None:
    async with serving(server, models=["tiny"]) as engine:
        answer = await ask(engine, job("tiny"), chat("hello", model="gpt-4o-mini"))

    assert answer.document["model"] == "tiny"
    assert server.asked(CHAT)[-1]["model"] == "tiny:latest"


async def test_something_else_behind_the_url_is_a_fault(server: Ollama) -> None:
    engine = OllamaEngine(config("ollama", server.url + "/v1/models"))
    await engine.open()
    with pytest.raises(EngineFault) as caught:
        await engine.discover()
    await engine.close()

    assert caught.value.away


async def test_each_model_has_its_own_endpoints(engine: OllamaEngine) -> None:
    for model, endpoint in (("minilm:latest", CHAT), ("tiny:latest", EMBEDDINGS)):
        answer = await ask(engine, job(model, endpoint), {**chat("x"), "input": "x"})
        assert (answer.status, answer.error["code"]) == (400, "unsupported_endpoint")


async def test_a_model_that_was_removed_is_refused_and_then_missed(
    server: Ollama, engine: OllamaEngine
) -> None:
    del server.models["tiny:latest"]
    answer = await ask(engine, tiny(), chat("x"))

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    with pytest.raises(EngineFault, match="other models"):
        await engine.probe()
    assert [m.id for m in (await engine.discover()).models] == ["minilm:latest"]


async def test_the_check_waits_for_the_model_to_load(server: Ollama, engine: OllamaEngine) -> None:
    server.load_s = 0.01
    await engine.check()

    assert server.models["tiny:latest"].loaded
    assert server.asked(CHAT)[-1]["max_tokens"] == 1

"""The official clients, with strict checks of all answers: echo, and the simulated engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from tests.doubles.sdserver.server import SdServer
from tests.doubles.vllm.server import Vllm
from tests.doubles.whisper.server import whisper_sim
from tests.fabric import KEY, Fabric, fabric
from tests.integration import strict
from tests.integration.test_text_endpoints import send
from tests.unit.ingress.request.web_server import png
from workers.engines.whisper.engine import tone

OLLAMA, VLLM, JUDGE = "tiny:latest", "tiny", "judge"
_CALLS = frozenset(name for name in strict.GENERATING if "call" in name)
"""Neither simulated engine can be made to call."""
LEFT_OUT: Mapping[str, frozenset[str]] = {
    OLLAMA: _CALLS | {"several"},
    VLLM: _CALLS | {"several choices", "their stream"},  # not at temperature 0
}
ASKED: list[tuple[str, strict.Ask]] = [
    *(
        ("echo", ask)
        for asks in (strict.GENERATING, strict.PROBABLE, strict.TEXTS, strict.COUNTED)
        for ask in asks.values()
    ),
    *(
        (model, ask)
        for model, left_out in LEFT_OUT.items()
        for name, ask in {**strict.TEXTS, **strict.GENERATING}.items()
        if name not in left_out
    ),
    *(("echo", ask) for ask in (*strict.VECTORS.values(), *strict.JUDGED.values())),
    *(("hands", ask) for ask in strict.DRAWN.values()),
    *(("hands", of(png(64, 64))) for of in strict.EDITED.values()),
    *(("ears", of(tone())) for of in strict.HEARD.values()),
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    home = tmp_path_factory.mktemp("fabric")
    ollama = Ollama(Model(OLLAMA, ("completion", "tools"), num_ctx=2048))
    vllm, judge, sdserver = Vllm(), Vllm(JUDGE, judges=True), SdServer(native=False)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        for sim in (ollama, vllm, judge, sdserver):
            await stack.enter_async_context(sim)
        whisper = await stack.enter_async_context(whisper_sim())
        made = await stack.enter_async_context(fabric(broker, home))
        await made.ingress()
        await made.worker()
        await made.worker(ollama.url, kind="ollama")
        await made.worker(vllm.url, kind="vllm")
        await made.worker(judge.url, kind="vllm")
        await made.worker(sdserver.url, kind="sdcpp", models=["hands"])
        await made.worker(whisper.url, kind="whisper", models=["ears"])
        await made.served("echo", "ears", "hands", OLLAMA, VLLM, JUDGE)
        yield made


@pytest.mark.filterwarnings("ignore:deprecated")
async def test_openais_client_finds_every_field(served: Fabric) -> None:
    async with strict.openai_client(served.url, KEY) as client:
        for model, ask in ASKED:
            assert await ask(client, model)


async def test_anthropics_client_finds_every_field(served: Fabric) -> None:
    async with strict.anthropic_client(served.url, KEY) as client:
        for ask in strict.CLAUDES.values():
            assert await ask(client, "echo")
        for model in (OLLAMA, VLLM):
            for name in ("a message", "its stream", "one that is cut", "models"):
                assert await strict.CLAUDES[name](client, model)


@pytest.mark.parametrize("model", ["echo", VLLM])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_cut_says_so_of_its_item(served: Fabric, model: str, stream: bool) -> None:
    name = "a stream that is cut" if stream else "one that is cut"
    async with strict.openai_client(served.url, KEY) as client:
        answer: Any = await strict.GENERATING[name](client, model)
    if stream:
        numbers = [event.sequence_number for event in answer]
        assert numbers == sorted(set(numbers))
        ended = [event.item for event in answer if event.type == "response.output_item.done"]
        assert answer[-1].type == "response.incomplete"
        answer = answer[-1].response
        assert ended[-1].status == "incomplete"
    assert (answer.status, answer.output[-1].status) == ("incomplete", "incomplete")


async def test_a_text_is_tokens_at_vllm_and_tokens_are_a_text(served: Fabric) -> None:
    asked = {"model": VLLM, "prompt": "one two three"}
    tokens = (await send(served, "/tokenize", asked)).json
    assert (tokens["count"], len(tokens["tokens"])) == (3, 3)
    back = await send(served, "/detokenize", {"model": VLLM, "tokens": tokens["tokens"]})
    assert back.json["prompt"] == back.json["content"] == "w0 w1 w2"


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_scores_and_classes_are_passed_on(served: Fabric, path: str) -> None:
    asked = {"model": JUDGE, "text_1": "a b", "text_2": ["a", "b a"]}
    answer = await send(served, path, asked)
    assert [each["score"] for each in answer.json["data"]] == [0.5, 1.0]
    assert (answer.json["model"], answer.json["usage"]["prompt_tokens"]) == (JUDGE, 7)
    found = await send(served, "/classify", {"model": JUDGE, "input": "good"})
    assert found.json["data"][0]["label"] == "good"
    pooled = await send(served, "/pooling", {"model": JUDGE, "input": "a b"})
    assert len(pooled.json["data"][0]["data"]) == 2


async def test_scores_are_refused_where_there_are_none(served: Fabric) -> None:
    pair = {"text_1": "a", "text_2": "b"}
    answer = await send(served, "/score", {"model": VLLM, **pair})
    assert (answer.status, answer.json["error"]["code"]) == (400, "unsupported_endpoint")
    answer = await send(served, "/score", {"model": JUDGE, "text_1": "a"})
    assert (answer.status, answer.json["error"]["param"]) == (400, "text_2")
    shown = [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "file:/"}}]}]
    answer = await send(served, "/classify", {"model": JUDGE, "messages": shown})
    assert (answer.status, answer.json["error"]["param"]) == (400, "messages[0].content[0].type")

"""vLLM with a model for scores and classes, simulated by what its source says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from schemas.frames import End
from tests.doubles.drive import RecordingSink, ask, config, job, opened
from tests.doubles.vllm.server import Vllm
from workers.engines.vllm import VllmEngine


@pytest.fixture
async def engine() -> AsyncIterator[VllmEngine]:
    async with Vllm(judges=True) as server, opened(VllmEngine(config("vllm", server.url))) as made:
        yield made


async def test_its_endpoints_are_found(engine: VllmEngine) -> None:
    (model,) = (await engine.discover()).models
    assert model.features == ("tokenize", "detokenize", "score", "classify", "pooling")
    assert await engine.check() is None


@pytest.mark.parametrize(
    ("path", "asked", "field", "said", "tokens"),
    [
        ("/score", {"text_1": "a b", "text_2": ["a", "c"]}, "score", [0.5, 0], 6),
        ("/score", {"queries": ["a"], "documents": ["a"]}, "score", [1], 2),
        ("/classify", {"input": ["good", "no"]}, "label", ["good", "bad"], 2),
        ("/classify", {"messages": [{"role": "user", "content": "good"}]}, "label", ["good"], 1),
        ("/pooling", {"input": "a b"}, "data", [[[0.5, 0.25], [0.5, 0.25]]], 2),
        ("/pooling", {"input": "a", "encoding_format": "base64"}, "data", ["AAAAPw=="], 1),
    ],
)
async def test_what_it_says_is_passed_on_and_counted(
    engine: VllmEngine, path: str, asked: dict[str, Any], field: str, said: list[Any], tokens: int
) -> None:
    sink = RecordingSink()
    end = await engine.run(job("tiny", path), orjson.dumps(asked), sink)
    assert sink.status == 200
    assert [each[field] for each in sink.document["data"]] == said
    assert end == End(tokens, 0, 0, end.engine_ms)


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "Input lengths must be"),
        ("/pooling", {"input": "a", "dimensions": 2}, "dimensions is currently not supported"),
        ("/classify", {}, "input: Field required."),
    ],
)
async def test_its_refusals_reach_the_client(
    engine: VllmEngine, path: str, asked: dict[str, Any], message: str
) -> None:
    answer = await ask(engine, job("tiny", path), asked)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert message in answer.error["message"]

"""llama-server's own text completion, of several prompts and choices, and its own embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.api import sse
from tests.acceptance.conftest import MODEL, RealLlama, running_llama
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, embeddings
from tests.fabric import Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({"prompt": ["Once", "The sea"]}, 2),
        ({"prompt": ["Once", [504, 8152], [504, " sea"]]}, 3),
        ({"prompt": "Once", "n": 2}, 2),
        ({"prompt": "Once", "n_cmpl": 2}, 2),
    ],
)
async def test_each_has_its_own_answer(
    served: Fabric, asked: dict[str, Any], answers: int, stream: bool
) -> None:
    body = {"model": MODEL, "n_predict": 3, "stream": stream, **asked}
    url, headers = served.url + "/completion", served.headers
    async with served.session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found = list(sse.objects(await answer.read())) if stream else await answer.json()
    ended = [each for each in found if each["stop"]]
    assert sorted(each["index"] for each in ended) == list(range(answers))
    assert {each["model"] for each in ended} == {MODEL}
    assert {each["tokens_predicted"] for each in ended} == {3}


@pytest.mark.parametrize("stream", [False, True])
async def test_chosen_fields_are_chosen_of_each(served: Fabric, stream: bool) -> None:
    fields = ["content", "generation_settings/n_predict"]
    body = {"model": MODEL, "n_predict": 2, "stream": stream, "response_fields": fields}
    url, headers = served.url + "/completion", served.headers
    asked = {**body, "prompt": ["Once", "The sea"]}
    async with served.session.post(url, json=asked, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found = list(sse.objects(await answer.read())) if stream else await answer.json()
    chosen = [each for each in found if "generation_settings/n_predict" in each]
    assert [each["generation_settings/n_predict"] for each in chosen] == [2, 2]
    assert all(set(each) == set(fields) for each in chosen)


@pytest.fixture(scope="module")
def embedder() -> Iterator[RealLlama]:
    with running_llama(*embeddings()) as server:
        yield server


@pytest.mark.parametrize(
    "asked",
    [
        {"content": "hello"},
        {"content": ["hello", "the sea"]},
        {"input": ["hello", [101, 7592, 102]]},
        {"content": "hello", "encoding_format": "base64"},
        {"content": "hello", "embd_normalize": -1},
    ],
)
async def test_vectors_come_as_directly(
    served: Fabric, embedder: RealLlama, asked: dict[str, Any]
) -> None:
    url, headers = served.url + "/embedding", served.headers
    body = {"model": EMBEDDINGS_MODEL, **asked}
    async with served.session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        through = await answer.json()
    async with served.session.post(embedder.url + "/embedding", json=asked) as answer:
        directly = await answer.json()
    assert [each["index"] for each in through] == [each["index"] for each in directly]
    for one, other in zip(through, directly, strict=True):
        assert set(one) == set(other)
        assert len(one["embedding"]) == len(other["embedding"]) == 1
        assert one["embedding"][0] == pytest.approx(other["embedding"][0], abs=1e-3)

"""Documents ranked by a real llama.cpp, as Jina's and Cohere's clients ask for it.

The model was made for embeddings and has no head for ranks: only their form is looked at.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, RANKING_MODEL
from tests.fabric import Fabric

pytestmark = pytest.mark.asyncio(loop_scope="package")

TEXTS = ["Cats purr.", "The stock market fell.", "A kitten sleeps on the rug."]


async def rank(served: Fabric, model: str = RANKING_MODEL, **fields: Any) -> tuple[int, Any]:
    body = {"model": model, "query": "What do cats do?", "documents": TEXTS, **fields}
    url = served.url + "/v1/rerank"
    async with served.session.post(url, json=body, headers=served.headers) as answer:
        return answer.status, await answer.json()


async def scores(served: Fabric, **fields: Any) -> dict[int, float]:
    status, found = await rank(served, **fields)
    assert status == 200, found
    assert found["model"] == RANKING_MODEL
    return {each["index"]: each["relevance_score"] for each in found["results"]}


async def test_documents_are_ranked(served: Fabric) -> None:
    found = await scores(served)
    assert found.keys() == {0, 1, 2}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert len(set(found.values())) == 3


async def test_documents_may_be_objects_with_a_text(served: Fabric) -> None:
    plain = await scores(served)
    objects = [{"text": TEXTS[0], "id": "x"}, {"text": TEXTS[1]}, TEXTS[2]]
    assert await scores(served, documents=objects) == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize(("most", "given"), [(1, 1), (2, 2), (9, 3), (2**31 - 1, 3)])
async def test_the_first_of_them(served: Fabric, most: int, given: int) -> None:
    every = await scores(served)
    assert list(await scores(served, top_n=most)) == list(every)[:given]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"top_n": 0}, "invalid_request", "top_n"),
        ({"top_n": 2**31}, "invalid_request", "top_n"),
        ({"documents": []}, "invalid_request", "documents"),
        ({"documents": [{"body": "x"}]}, "invalid_request", "documents[0].text"),
        ({"documents": ["word " * 3000]}, "context_length_exceeded", "documents"),
        ({"return_documents": True}, "unsupported_parameter", "return_documents"),
        ({"model": EMBEDDINGS_MODEL}, "unsupported_endpoint", "model"),
    ],
)
async def test_what_cannot_be_ranked_is_named(
    served: Fabric, fields: dict[str, Any], code: str, param: str
) -> None:
    status, found = await rank(served, **fields)
    told = found["error"]
    assert (status, told["code"], told["param"]) == (400, code, param)

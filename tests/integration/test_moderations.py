"""Moderations through the fabric: the official client, and an engine that has nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from openai.types import ModerationTextInputParam

from tests.doubles.base import document
from tests.fabric import Fabric
from tests.integration.one_endpoint import OneEndpointServer, client, fabric_with, post

MODERATIONS = "/v1/moderations"
TEXT: ModerationTextInputParam = {"type": "text", "text": "what violence"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class ModerationServer(OneEndpointServer):
    """An engine with OpenAI's API that only moderates: it is never asked for anything else."""

    model, path = "omni", MODERATIONS

    def reply(self, asked: dict[str, Any]) -> web.Response:
        result = {"flagged": True, "categories": {"violence": True}, "category_scores": {}}
        return document({"id": "modr-1", "model": "omni", "results": [result]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def moderating(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Fabric, ModerationServer]]:
    server, routes = ModerationServer(), {"text-moderation-latest": "omni"}
    async with fabric_with(server, tmp_path_factory.mktemp("fabric"), routes) as made:
        yield made, server


async def test_an_engine_that_has_them_is_found(
    moderating: tuple[Fabric, ModerationServer],
) -> None:
    made, server = moderating
    async with client(made) as sdk:
        found = await sdk.moderations.create(model="text-moderation-latest", input="I kill you")
    assert (found.model, found.results[0].flagged) == ("text-moderation-latest", True)
    assert found.results[0].categories.violence
    assert server.asked(MODERATIONS)[-1] == {"model": "omni", "input": "I kill you"}
    other = {"model": "omni", "messages": [{"role": "user", "content": "hi"}]}
    async with made.session.post(
        made.url + "/v1/chat/completions", json=other, headers=made.headers
    ) as refused:
        assert MODERATIONS in (await refused.json())["error"]["message"]


async def test_a_text_has_a_result_of_its_own_and_a_model_need_not_be_named(
    moderating: tuple[Fabric, ModerationServer],
) -> None:
    made, _ = moderating
    async with client(made) as sdk:
        found = await sdk.moderations.create(input=["pure violence", "peace"])
        parts = await sdk.moderations.create(model="echo", input=[TEXT])
    assert found.model == "echo", "the first of those that have it"
    assert [each.flagged for each in found.results] == [True, False]
    assert found.results[0].categories.violence
    assert found.results[1].category_scores.violence == 0
    assert found.results[0].category_applied_input_types.violence == ["text"]
    assert [each.categories.violence for each in parts.results] == [True]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": None}, (400, "invalid_request", "input")),
        ({"input": []}, (400, "invalid_request", "input")),
        ({"input": ["a", {"type": "text", "text": "b"}]}, (400, "invalid_request", "input")),
        ({"input": [{"type": "text"}]}, (400, "invalid_request", "input[0].text")),
        ({"input": [PICTURE]}, (400, "invalid_request", "input[0].image_url")),
        ({"model": "nobody"}, (404, "model_not_found", "model")),
    ],
)
async def test_what_cannot_be_moderated_is_refused(
    moderating: tuple[Fabric, ModerationServer], change: dict[str, Any], told: tuple[int, str, str]
) -> None:
    made, _ = moderating
    assert (await post(made, MODERATIONS, {"model": "echo", "input": "hi", **change})).told == told

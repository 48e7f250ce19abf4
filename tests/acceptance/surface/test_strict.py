"""The official clients, with strict checks of all answers, on real llama-servers."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, THINKING_MODEL, TOOLS_MODEL
from tests.fabric import KEY, Fabric
from tests.integration import strict

pytestmark = pytest.mark.asyncio(loop_scope="package")
each_model = pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL, THINKING_MODEL])


@each_model
async def test_openais_client_finds_every_field(served: Fabric, model: str) -> None:
    asked = {**strict.PROBABLE, **strict.TEXTS, **strict.COUNTED, **strict.GENERATING}
    async with strict.openai_client(served.url, KEY) as client:
        for ask in asked.values():
            assert await ask(client, model)
        for ask in strict.VECTORS.values():
            assert await ask(client, EMBEDDINGS_MODEL)


@each_model
async def test_anthropics_client_finds_every_field(served: Fabric, model: str) -> None:
    async with strict.anthropic_client(served.url, KEY) as client:
        for ask in strict.CLAUDES.values():
            assert await ask(client, model)


@each_model
@pytest.mark.parametrize("stream", [False, True])
async def test_ids_of_messages_are_ids_of_messages(
    served: Fabric, model: str, stream: bool
) -> None:
    async with strict.anthropic_client(served.url, KEY) as client:
        answer = await strict.CLAUDES["its stream" if stream else "a message"](client, model)
    assert (answer[0].message if stream else answer).id.startswith("msg_")


@each_model
@pytest.mark.parametrize("name", ["one that is cut", "a stream that is cut"])
async def test_what_is_cut_says_so_of_its_item(served: Fabric, model: str, name: str) -> None:
    async with strict.openai_client(served.url, KEY) as client:
        answer = await strict.GENERATING[name](client, model)
    if isinstance(answer, list):
        ended = [event.item for event in answer if event.type == "response.output_item.done"]
        answer = answer[-1].response
        assert ended[-1].status == "incomplete"
    assert (answer.status, answer.output[-1].status) == ("incomplete", "incomplete")


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
async def test_before_a_call_there_is_no_text(served: Fabric, model: str) -> None:
    async with strict.openai_client(served.url, KEY) as client:
        called = await strict.GENERATING["a call's stream"](client, model)
        spoken = await strict.GENERATING["its stream"](client, model)
    assert called[0].choices[0].delta.role == spoken[0].choices[0].delta.role == "assistant"
    assert called[0].choices[0].delta.content is None
    assert spoken[0].choices[0].delta.content == ""

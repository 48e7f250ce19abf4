"""A model that workers and providers have: each request is judged by whoever is to answer it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.acceptance.cloud.shared import AllProviders, all_providers, user
from tests.doubles.llamacpp.script import CHAT, chunk
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.providers import Provider
from tests.doubles.sdserver.pictures import png

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
ONLY = {"x-headrace-fallback": "only"}
NEVER = {"x-headrace-fallback": "never"}
LENIENT = {"x-headrace-lenient": "true"}
PICTURE = "data:image/png;base64," + base64.b64encode(png(8, 8, b"\x80" * 24)).decode()
SEEN: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "#p one"},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ],
    }
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AllProviders]:
    """`own` is a model of one llama-server that neither sees nor embeds, and of providers that
    do."""
    async with LlamaCpp() as server, all_providers(tmp_path_factory.mktemp("cloud"), _more) as made:
        said = {"role": "assistant", "content": "from here"}
        answer = {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
        server.documents[CHAT] = 200, {"model": "own", "object": "chat.completion", **answer}
        server.streams[CHAT] = [chunk({"content": "from here"}), chunk({}, "stop"), server_done()]
        await made.setup.fabric.worker(server.url, kind="llamacpp")
        await made.setup.fabric.served("own")
        yield made


def server_done() -> bytes:
    return b"data: [DONE]\n\n"


def _more(setup: CloudSetup, sims: dict[str, Provider]) -> None:
    setup.route("mixed", ["openai/gpt-4o-mini"], model="own")
    setup.route("mixed-embed", ["openai/text-embedding-3-small"], model="own")


async def test_answers_have_one_name_wherever_they_come_from(cloud: AllProviders) -> None:
    create = cloud.client.chat.completions.with_raw_response.create
    for headers, whence in (({}, "node:"), (ONLY, "provider:openai")):
        raw = await create(
            model="mixed", messages=user("#a one"), max_tokens=2, extra_headers=headers
        )
        assert raw.headers["x-headrace-served-by"].startswith(whence)
        assert raw.parse().model == "mixed"
        events = await create(
            model="mixed", messages=user("#a one"), stream=True, extra_headers=headers
        )
        assert events.headers["x-headrace-served-by"].startswith(whence)
        streamed: Any = events.parse()
        assert {each.model async for each in streamed} == {"mixed"}


async def test_a_picture_goes_where_it_is_seen(cloud: AllProviders) -> None:
    create = cloud.client.chat.completions.with_raw_response.create
    with pytest.raises(openai.BadRequestError) as caught:
        await create(model="mixed", messages=SEEN)
    assert "cannot see pictures" in caught.value.message
    raw = await create(model="mixed", messages=SEEN, max_tokens=2, extra_headers=ONLY)
    assert raw.parse().choices[0].message.content == "#p one"
    await cloud.billed("chat", raw.headers)


async def test_an_endpoint_that_the_provider_alone_has(cloud: AllProviders) -> None:
    create = cloud.client.embeddings.with_raw_response.create
    with pytest.raises(openai.BadRequestError) as caught:
        await create(model="mixed-embed", input="one two")
    assert caught.value.code == "unsupported_endpoint"
    raw = await create(model="mixed-embed", input="one two", extra_headers=ONLY)
    assert len(raw.parse().data[0].embedding) == 1536
    await cloud.billed("embed", raw.headers)
    with pytest.raises(openai.BadRequestError) as caught:
        await cloud.client.chat.completions.create(
            model="mixed-embed", messages=user("x"), extra_headers=ONLY
        )
    assert caught.value.code == "no_provider"
    assert not cloud.sent("openai")


async def test_a_field_counts_where_the_request_goes(cloud: AllProviders) -> None:
    """`verbosity` is OpenAI's, a grammar llama-server's."""
    create = cloud.client.chat.completions.with_raw_response.create
    raw = await create(model="mixed", messages=user("x"), verbosity="low", extra_headers=NEVER)
    assert raw.headers["x-headrace-warning"].startswith("verbosity has no effect")
    raw = await create(
        model="mixed", messages=user("#v one"), max_tokens=2, verbosity="low", extra_headers=ONLY
    )
    assert raw.parse().choices[0].message.content == "#v one"
    assert (await cloud.billed("chat", raw.headers)).body["verbosity"] == "low"
    assert "x-headrace-warning" not in raw.headers

    grammar = {"grammar": 'root ::= "a"'}
    raw = await create(model="mixed", messages=user("x"), extra_body=grammar)
    assert raw.headers["x-headrace-served-by"].startswith("node:")
    with pytest.raises(openai.BadRequestError) as caught:
        await create(model="mixed", messages=user("x"), extra_body=grammar, extra_headers=ONLY)
    assert caught.value.param == "grammar"
    assert not cloud.sent("openai")
    raw = await create(
        model="mixed",
        messages=user("#g one"),
        max_tokens=2,
        extra_body=grammar,
        extra_headers={**ONLY, **LENIENT},
    )
    assert "grammar" in raw.headers["x-headrace-warning"]
    assert "grammar" not in (await cloud.billed("chat", raw.headers)).body

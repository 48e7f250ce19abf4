"""The endpoints that llama-server has beside OpenAI's, over real processes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import sse
from tests.integration.test_text_endpoints import USER, send
from tests.integration.uploads import MediaSetup

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("version", ["", "/v1"])
async def test_a_text_is_tokens_and_tokens_are_a_text(setup: MediaSetup, version: str) -> None:
    for asked in ({"content": "hé"}, {"prompt": "hé"}):
        answer = await send(setup.fabric, f"{version}/tokenize", {"model": "echo", **asked})
        assert answer.status == 200
        assert answer.json["count"] == len(answer.json["tokens"]) == 3
    back = {"model": "echo", "tokens": answer.json["tokens"]}
    answer = await send(setup.fabric, f"{version}/detokenize", back)
    assert answer.json == {"content": "hé", "prompt": "hé"}


async def test_a_chat_is_a_prompt(setup: MediaSetup) -> None:
    answer = await send(setup.fabric, "/apply-template", {"model": "echo", "messages": USER})
    asked = {"model": "echo", "messages": USER, "return_token_strs": True}
    tokens = await send(setup.fabric, "/tokenize", asked)
    assert "".join(tokens.json["token_strs"]) == answer.json["prompt"]


async def test_a_text_is_continued(setup: MediaSetup) -> None:
    asked = {"model": "echo", "prompt": "one two three", "n_predict": 2}
    answer = await send(setup.fabric, "/completion", asked)
    assert (answer.json["content"], answer.json["stop"]) == ("one two", True)
    assert (answer.json["tokens_predicted"], answer.json["tokens_evaluated"]) == (2, 3)
    answer = await send(setup.fabric, "/completion", {**asked, "stream": True})
    assert answer.headers["content-type"].startswith(sse.CONTENT_TYPE)
    assert b"[DONE]" not in answer.body
    events = list(sse.objects(answer.body))
    assert [each["content"] for each in events] == ["one", " two", ""]
    assert [each["stop"] for each in events] == [False, False, True]


async def test_vectors_in_llama_servers_form_are_a_bare_list(setup: MediaSetup) -> None:
    texts = ["a", "b"]
    usual = await send(setup.fabric, "/v1/embeddings", {"model": "echo", "input": texts})
    wanted = [
        {"index": each["index"], "embedding": [each["embedding"]]} for each in usual.json["data"]
    ]
    coded = {"input": texts, "encoding_format": "base64"}
    for asked, path in (({"content": texts}, "/embedding"), (coded, "/v1/embedding")):
        answer = await send(setup.fabric, path, {"model": "echo", **asked})
        assert (answer.status, answer.json) == (200, wanted)
        warned = answer.headers.get("x-headrace-warning", "")
        assert warned.startswith("encoding_format") == (asked is coded)
    one = await send(setup.fabric, "/embedding", {"model": "echo", "content": "b"})
    assert one.json == [{"index": 0, "embedding": wanted[1]["embedding"]}]
    refused = await send(setup.fabric, "/embedding", {"model": "echo"})
    assert (refused.status, refused.json["error"]["param"]) == (400, "input")


async def test_a_rerank_in_teis_form_is_a_bare_list(setup: MediaSetup) -> None:
    asked = {"model": "echo", "query": "a b", "texts": ["x", "a b", "a"], "return_text": True}
    answer = await send(setup.fabric, "/rerank", asked)
    assert [each["index"] for each in answer.json] == [1, 2, 0]
    assert answer.json[0] == {"index": 1, "score": 1.0, "text": "a b"}
    refused = await send(setup.fabric, "/rerank", {**asked, "documents": ["x"]})
    assert (refused.status, refused.json["error"]["param"]) == (400, "texts")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/tokenize", {"content": "a"}),
        ("/detokenize", {"tokens": [1]}),
        ("/apply-template", {"messages": USER}),
        ("/completion", {"prompt": "a", "n_predict": 1}),
    ],
)
async def test_a_model_is_chosen_and_missed_as_elsewhere(
    setup: MediaSetup, path: str, asked: dict[str, Any]
) -> None:
    assert (await send(setup.fabric, path, asked)).status == 200
    answer = await send(setup.fabric, path, {"model": "nobody", **asked})
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    answer = await send(setup.fabric, path, {"model": "flux", **asked})
    assert (answer.status, answer.json["error"]["code"]) == (400, "unsupported_endpoint")
    answer = await send(setup.fabric, path, {"model": "echo", "x": 1})
    assert answer.status == 400
    assert answer.json["error"]["param"] in ("content", "tokens", "messages", "prompt")

"""What Ollama does to texts that are longer than its context: nothing is to be cut in silence."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from schemas.frames import End
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from workers.engines.ollama.engine import OllamaEngine

COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
LONG = "word " * 3000
"""15 kB, 3,000 tokens in the simulator."""


@pytest.fixture
async def server() -> AsyncIterator[Ollama]:
    embedder = Model("minilm:latest", ("embedding",), num_ctx=256)
    async with Ollama(Model("tiny:latest", num_ctx=2048), embedder) as running:
        yield running


@pytest.fixture
async def engine(server: Ollama) -> AsyncIterator[OllamaEngine]:
    async with opened(OllamaEngine(config("ollama", server.url))) as made:
        yield made


async def test_the_simulator_cuts_prompts_without_a_word(server: Ollama) -> None:
    """What the engine protects from, as a request to it directly shows."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + CHAT, json={"model": "tiny", **chat(LONG)}) as answer,
    ):
        assert answer.status == 200
        assert (await answer.json())["usage"]["prompt_tokens"] < 2048
    assert len(server.prompts[0].split()) < 2048


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        (CHAT, chat(LONG), "messages"),
        (CHAT, chat([{"type": "text", "text": LONG}]), "messages"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": LONG}, {"role": "user", "content": "x"}]},
            "messages",
        ),
        (COMPLETIONS, {"prompt": LONG}, "prompt"),
        (RESPONSES, {"input": LONG}, "input"),
        (RESPONSES, {"input": "x", "instructions": LONG}, "input"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"text": LONG}]}]}, "input"),
        (RESPONSES, {"input": [{"type": "function_call_output", "output": LONG}]}, "input"),
        (MESSAGES, {**chat(LONG), "max_tokens": 5}, "messages"),
        (MESSAGES, {**chat("x"), "max_tokens": 5, "system": [{"text": LONG}]}, "messages"),
    ],
)
async def test_a_prompt_that_it_would_cut_is_refused(
    server: Ollama,
    engine: OllamaEngine,
    endpoint: str,
    body: dict[str, Any],
    param: str,
    streamed: bool,
) -> None:
    answer = await ask(
        engine, job("tiny:latest", endpoint, stream=streamed), {**body, "stream": streamed}
    )

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("context_length_exceeded", param)
    assert "(2048 tokens)" in answer.error["message"], "its runner's own words, unpacked"
    assert server.asked(endpoint) == []
    assert server.prompts == []


async def test_a_long_prompt_that_fits_is_answered_whole(
    server: Ollama, engine: OllamaEngine
) -> None:
    fits = "word " * 1500
    messages = [
        {"role": "user", "content": [{"type": "text", "text": fits}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "user", "content": "end"},
    ]  # fmt: skip
    answer = await ask(engine, job("tiny:latest"), {"messages": messages, "max_tokens": 2})

    assert answer.status == 200
    assert server.asked("/api/chat")[-1]["truncate"] is False
    assert len(server.prompts[-1].split()) > 1500
    await ask(engine, job("tiny:latest"), chat("short"))
    assert len(server.asked("/api/chat")) == 1, "short ones are not tried first"


@pytest.mark.parametrize("packed", [True, False])
async def test_embeddings(server: Ollama, engine: OllamaEngine, packed: bool) -> None:
    body: dict[str, Any] = {"input": ["a b", "c"], "dimensions": 3, "model": "minilm"}
    if packed:
        body["encoding_format"] = "base64"
    sink = RecordingSink()
    end = await engine.run(job("minilm:latest", EMBEDDINGS), orjson.dumps(body), sink)
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + EMBEDDINGS, json=body) as answer,
    ):
        its_own = await answer.json()

    assert sink.document == {**its_own, "model": sink.document["model"]}
    assert end == End(3, 0, 0, end.engine_ms)
    first = sink.document["data"][0]["embedding"]
    numbers = struct.unpack("<3f", base64.b64decode(first)) if packed else first
    assert numbers == pytest.approx([0.25, 0.2, 0.166667], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("word " * 300, "context_length_exceeded"),
        ([[1, 2, 3]], "invalid_request"),
        (None, "invalid_request"),
    ],
)
async def test_inputs_that_cannot_be_embedded(
    engine: OllamaEngine, given: object, code: str
) -> None:
    answer = await ask(engine, job("minilm:latest", EMBEDDINGS), {"input": given})

    assert answer.status == 400
    assert answer.error["code"] == code
    if code == "context_length_exceeded":
        assert answer.error["param"] == "input"


async def test_long_requests_of_any_shape_are_ollamas_to_judge(engine: OllamaEngine) -> None:
    for content in (b'["%b"]', b'{"a":"%b"}', b'[{"text":["%b"]}]'):
        text = content.replace(b"%b", LONG.encode(), 1)
        body = b'{"messages":[{"role":"user","content":' + text + b"}]}"
        answer = await ask(engine, job("tiny:latest"), body)
        assert answer.status == 400


@pytest.mark.parametrize("levels", [200, 900])
async def test_deeply_nested_requests_are_refused_by_someone(
    engine: OllamaEngine, levels: int
) -> None:
    nested = b"[" * levels + b'"' + LONG.encode() + b'"' + b"]" * levels
    body = b'{"messages":[{"role":"user","content":' + nested + b"}]}"
    answer = await ask(engine, job("tiny:latest"), body)

    assert answer.status == 400

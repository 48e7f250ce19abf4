"""Log-probabilities of the chosen tokens alone, and of text completions: test_llamacpp."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.base import DONE, sse
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import COMPLETIONS, LlamaCppEngine

TOKEN = {"token": "x", "logprob": -1.0, "top_logprobs": [{"token": "y", "logprob": -0.5}]}


async def answered(path: str, stream: bool, body: dict[str, Any]) -> tuple[RecordingSink, Any]:
    """What the client gets, and what the server was asked."""
    said = {"text": "x"} if path == COMPLETIONS else {"delta": {"content": "x"}}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": {"content": [TOKEN]}, **said}
    async with LlamaCpp() as server, opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        server.streams[path] = [sse({"choices": [choice]}), DONE]
        asked = {**body, "stream": stream}
        return await ask(made, job("own", path, stream=stream), asked), server.asked(path)[-1]


def probable(sink: RecordingSink, stream: bool) -> Any:
    return (sink.events[-1] if stream else sink.document)["choices"][0]["logprobs"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("most", [0, 1])
async def test_a_chat(stream: bool, most: int) -> None:
    body = chat("hi", logprobs=True, top_logprobs=most)
    sink, asked = await answered(CHAT, stream, body)
    assert asked["top_logprobs"] == 1, "for 0 llama-server gives nothing at all"
    others = TOKEN["top_logprobs"] if most else []
    assert probable(sink, stream)["content"] == [{**TOKEN, "top_logprobs": others}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("most", [0, 1])
async def test_a_text(stream: bool, most: int) -> None:
    sink, asked = await answered(COMPLETIONS, stream, {"prompt": "hi", "logprobs": most})
    assert asked["logprobs"] == 1
    found = probable(sink, stream)
    assert (found["tokens"], found["token_logprobs"]) == (["x"], [-1.0])
    assert found["top_logprobs"] == [{"y": -0.5} if most else {}]

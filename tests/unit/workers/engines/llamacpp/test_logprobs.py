"""Log-probabilities of the chosen tokens alone, and of text completions: test_llamacpp."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.base import DONE, sse
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import COMPLETIONS, LlamaCppEngine

TOKEN = {"token": "x", "logprob": -1.0, "top_logprobs": [{"token": "y", "logprob": -0.5}]}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def answered(
    path: str, stream: bool, body: dict[str, Any], delta: dict[str, Any] | None = None
) -> tuple[RecordingSink, Any]:
    """What the client gets, and what the server was asked."""
    said: dict[str, Any] = (
        {"text": "x"} if path == COMPLETIONS else {"delta": delta or {"content": "x"}}
    )
    choice = {"index": 0, "finish_reason": "stop", "logprobs": {"content": [TOKEN]}, **said}
    async with LlamaCpp() as server:
        server.props["chat_template_caps"]["supports_tools"] = "tools" in body
        async with opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
            server.streams[path] = [sse({"choices": [choice]}), DONE]
            asked = {**body, "stream": stream}
            sink = await ask(made, job("own", path, stream=stream), asked)
            return sink, server.asked(path)[-1]


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("most", "probabilities"), [({}, 20), ({"top_logprobs": 0}, 1)])
async def test_beside_tools_they_are_asked_for_by_the_engines_own_name(
    stream: bool, most: dict[str, Any], probabilities: int
) -> None:
    """`logprobs` is refused by the engine in a stream with tools, and it is always one."""
    body = chat("hi", logprobs=True, tools=[TOOL], tool_choice="none", **most)
    sink, asked = await answered(CHAT, stream, body)
    assert asked["n_probs"] == probabilities
    assert not asked.keys() & {"logprobs", "top_logprobs"}
    assert [token["token"] for token in probable(sink, stream)["content"]] == ["x"]
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    sink, _ = await answered(CHAT, stream, body, {"tool_calls": [call]})
    assert probable(sink, stream) is None, "a call has none"

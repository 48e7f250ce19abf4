"""Text completions: the count of tokens comes once, last, and only where it is wanted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.frames import End
from tests.doubles.base import DONE, sse
from tests.doubles.drive import RecordingSink, ask, config, job, opened
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import COMPLETIONS, LlamaCppEngine

TOP = {"id": "c", "created": 1, "model": "own", "object": "text_completion"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SAID = b'data: {"choices":[{"text":"\\"usage\\":1 ","index":0}],"odd": 1.50}\n\n'


def closing(index: int = 0) -> bytes:
    """llama-server's last chunk, which has the usage whether it was asked for or not."""
    choice = {"text": "", "index": index, "finish_reason": "length"}
    return sse({"choices": [choice], **TOP, "usage": USAGE})


async def streamed(*chunks: bytes, **asked: Any) -> tuple[RecordingSink, End]:
    async with LlamaCpp() as server, opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        server.streams[COMPLETIONS] = [*chunks, DONE]
        body = {"prompt": "hi", "stream": True, **asked}
        sink = RecordingSink()
        end = await made.run(job("own", COMPLETIONS, stream=True), orjson.dumps(body), sink)
        return sink, end


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_stream_of_one_prompt(wanted: bool) -> None:
    sink, end = await streamed(SAID, closing(), stream_options={"include_usage": wanted})
    assert sink.body.startswith(SAID), "what says no count passes as it came"
    assert sink.body.endswith(DONE)
    told = [event["usage"] for event in sink.events if "usage" in event]
    assert told == ([USAGE] if wanted else [])
    if wanted:
        assert sink.events[-1] == {"choices": [], **TOP, "usage": USAGE}
    assert (end.prompt_tokens, end.completion_tokens) == (3, 2), "the books know it all the same"


async def test_a_stream_of_several_prompts() -> None:
    chunks = b"data: null\n\n", SAID, closing(), closing(1)
    sink, _ = await streamed(*chunks, prompt=["a", "b"], stream_options={"include_usage": True})
    (told,) = [event["usage"] for event in sink.events if "usage" in event]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (6, 4)


async def test_nothing_is_not_to_be_had() -> None:
    """It would write a token."""
    async with LlamaCpp() as server, opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        sink = await ask(made, job("own", COMPLETIONS), {"prompt": "hi", "max_tokens": 0})
    assert (sink.status, sink.error["param"]) == (400, "max_tokens")

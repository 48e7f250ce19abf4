"""What llama-server never answers, though all of its pages are: refused before, or found out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.doubles.base import DONE, sse
from tests.doubles.drive import ask, config, job, opened
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import COMPLETIONS, LlamaCppEngine
from workers.engines.llamacpp.native import BETWEEN as INFILL


@pytest.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp() as running:
        choice = {"text": "x", "index": 0, "finish_reason": "stop"}
        running.streams[COMPLETIONS] = [sse({"choices": [choice]}), DONE]
        yield running


def tokenized(*tokens: int) -> tuple[int, Any]:
    return 200, {"tokens": list(tokens)}


@pytest.mark.parametrize("prompt", ["", ["hi", ""]])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("several", [{"n": 2}, {"n_cmpl": 2}])
async def test_several_choices_for_nothing_are_refused(
    server: LlamaCpp, engine: LlamaCppEngine, prompt: Any, stream: bool, several: dict[str, int]
) -> None:
    server.documents["/tokenize"] = tokenized()
    body = {"prompt": prompt, "stream": stream, **several}
    sink = await ask(engine, job("own", COMPLETIONS, stream=stream), body)
    assert (sink.status, sink.error["param"]) == (400, "prompt")
    assert not server.asked(COMPLETIONS)[1:], "only its existence was asked for"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": ""}, ()),
        ({"prompt": "", "n": 1}, ()),
        ({"prompt": "hi", "n": 2}, ()),
        ({"prompt": [1, 2], "n": 2}, ()),
        ({"prompt": "", "n": 2}, (1,)),
    ],
)
async def test_other_prompts_are_not(
    server: LlamaCpp, engine: LlamaCppEngine, body: dict[str, Any], tokens: tuple[int, ...]
) -> None:
    """The last one: of a model that begins every prompt with a token."""
    server.documents["/tokenize"] = tokenized(*tokens)
    assert (await ask(engine, job("own", COMPLETIONS), body)).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_between_others_has_tokens_of_its_own(server: LlamaCpp, stream: bool) -> None:
    server.documents["/tokenize"] = tokenized()
    server.documents[INFILL] = 400, {"error": {"message": "what is before it?"}}
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        said = [{"index": at, "content": "x", "stop": True, "stop_type": "eos"} for at in range(2)]
        server.streams[INFILL] = [*map(sse, said)]
        body = {"prompt": "", "suffix": "b", "n": 2, "stream": stream}
        assert (await ask(engine, job("own", COMPLETIONS, stream=stream), body)).status == 200
    assert server.asked(INFILL)[-1]["input_suffix"] == "b"


IDLE = {"is_processing": False, "n_prompt_tokens": 0}
EMPTY = {"is_processing": True, "n_prompt_tokens": 0}
BUSY = {"is_processing": True, "n_prompt_tokens": 7}


@pytest.mark.parametrize(
    ("slots", "turns"),
    [
        ([IDLE, IDLE], True),
        ([IDLE, BUSY], True),
        ([EMPTY, BUSY], True),  # a second choice waits for the prompt of the first
        ([EMPTY, IDLE], False),
        ([EMPTY, EMPTY], False),
        ([{"is_processing": True}], True),  # another version, which tells less
        ({"error": "x"}, True),
    ],
)
async def test_a_server_that_works_on_nothing_makes_no_progress(
    server: LlamaCpp, engine: LlamaCppEngine, slots: Any, turns: bool
) -> None:
    server.slots = slots
    assert await engine.probe() is turns

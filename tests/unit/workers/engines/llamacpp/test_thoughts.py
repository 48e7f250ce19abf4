"""Answers that are continued within their thoughts, or behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.api import endpoints, sse
from schemas.frames import End
from schemas.jobs import Begun
from schemas.nodes import resuming, resuming_thoughts
from tests.doubles.drive import RecordingSink, config, job, opened
from tests.doubles.llamacpp.script import Document
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from workers.engines.base import EngineFault
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.openai import continued

CHAT = endpoints.CHAT.path
FEATURE = resuming_thoughts(CHAT)
USER = {"role": "user", "content": "hi"}
THOUGHT, TEXT = "w0 w1 w2 w3\n", "w5 w6"
"""The double's token w4 ends the thought."""


@pytest_asyncio.fixture
async def server() -> AsyncIterator[LlamaCpp]:
    async with LlamaCpp(Settings(tokens=10, continues=True, thoughts=4)) as made:
        yield made


async def features(server: LlamaCpp) -> tuple[str, ...]:
    engine = LlamaCppEngine(config("llamacpp", server.url))
    async with opened(engine):
        (model,) = (await engine.discover()).models
        return model.features


async def answered(server: LlamaCpp, begun: Begun, **more: Any) -> tuple[Any, list[Any], End]:
    """The request that the server got last, the events of its answer, and the end."""
    body = {"messages": [USER], "stream": True, "stream_options": {"include_usage": True}, **more}
    sink = RecordingSink()
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        of = replace(job("own", CHAT, stream=True), begun=begun)
        end = await engine.run(of, orjson.dumps(body), sink)
    return server.asked(CHAT)[-1], list(sse.objects(sink.body)), end


def said(events: list[Any], field: str) -> str:
    deltas = (choice["delta"] for event in events for choice in event["choices"])
    return "".join(delta.get(field) or "" for delta in deltas)


async def test_a_template_with_thoughts_is_on_the_card(server: LlamaCpp) -> None:
    assert {FEATURE, resuming(CHAT)}.issubset(await features(server))


async def test_one_that_drops_them_is_not() -> None:
    async with LlamaCpp(Settings(continues=True)) as server:
        server.props["chat_template"] += "{# <think> #}"
        found = await features(server)
        assert (resuming(CHAT) in found, FEATURE in found) == (True, False)


@pytest.mark.parametrize(
    ("within", "behind", "end"),
    [
        ("<think>They want a yes", "<think>They want a yes</think>Yes, I", "</think>"),
        ("They want a yes", "They want a yes\n</think>\n\nYes, I", "\n</think>\n\n"),
        ("<think>They want a yes</think>", "<think>They want a yes</think>Yes, I", ""),
        ("They want a yes", "They want a yes</think>Yes, I<end>", ""),
        ("They want a yes", "<user>Say yes.<assistant>Yes, I", ""),
        ("", "They want a yes</think>Yes, I", ""),
        (None, None, ""),
    ],
)
def test_the_end_of_a_thought_is_read_off_the_template(
    within: object, behind: object, end: str
) -> None:
    assert continued.thought_end(within, behind) == end


async def test_a_template_that_is_not_told_has_no_thoughts(server: LlamaCpp) -> None:
    unknown: Document = (500, {"error": {"message": "x"}})
    server.documents["/apply-template"] = unknown
    assert FEATURE not in await features(server)


async def test_a_thought_is_opened_again(server: LlamaCpp) -> None:
    sent, events, end = await answered(server, Begun(2, "", "w0 w1"), max_tokens=8)
    begun = {"role": "assistant", "content": "", "reasoning_content": "w0 w1"}
    assert (sent["messages"], sent["max_tokens"]) == ([USER, begun], 6)
    assert said(events, "reasoning_content") == " w2 w3"
    assert said(events, "content") == "w5 w6 w7"
    assert (end.prompt_tokens, end.completion_tokens) == (16, 8)
    usage = {name: events[-1]["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    assert usage == {"prompt_tokens": 16, "completion_tokens": 8}


async def test_a_text_goes_on_behind_its_thoughts(server: LlamaCpp) -> None:
    """The line's end that the template writes is not written twice, and the token that ended the
    thought counts, though no event had it."""
    sent, events, end = await answered(server, Begun(6, TEXT, THOUGHT), max_tokens=9)
    begun = {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT.strip()}
    assert (sent["messages"], sent["max_tokens"]) == ([USER, begun], 2)
    assert said(events, "reasoning_content") == ""
    assert said(events, "content") == " w7 w8"
    assert (end.prompt_tokens, end.completion_tokens) == (16, 9)


async def test_a_format_is_asked_for_until_there_is_text(server: LlamaCpp) -> None:
    kind = {"type": "json_object"}
    within, _, _ = await answered(server, Begun(2, "", "w0 w1"), response_format=kind)
    behind, _, _ = await answered(server, Begun(6, TEXT, THOUGHT), response_format=kind)
    assert ("response_format" in within, "response_format" in behind) == (True, False)


async def test_a_limit_that_is_used_up_leaves_no_thought(server: LlamaCpp) -> None:
    _, events, end = await answered(server, Begun(2, "", "w0 w1"), max_tokens=2)
    assert said(events, "reasoning_content") == said(events, "content") == ""
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    assert reasons[-1] == "length"
    assert end.completion_tokens == 2


async def test_one_that_drops_thoughts_does_not_begin_anew_in_their_place() -> None:
    async with LlamaCpp(Settings(continues=True)) as server:
        with pytest.raises(EngineFault, match="does not go on from thoughts"):
            await answered(server, Begun(2, "", "w0 w1"))


async def test_the_double_wants_a_content_beside_thoughts(server: LlamaCpp) -> None:
    """As llama-server does."""
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        sink = RecordingSink()
        rows = [USER, {"role": "assistant", "reasoning_content": "hm"}]
        body = orjson.dumps({"messages": rows, "stream": True})
        await engine.run(job("own", CHAT, stream=True), body, sink)
    assert b"must contain either 'content' or 'tool_calls'" in sink.body

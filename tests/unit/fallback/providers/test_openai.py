"""OpenAI's texts through a provider: what is sent, what comes back, what it used."""

from __future__ import annotations

from typing import Any

import pytest

from fallback.cost.price_list import Prices
from fallback.cost.pricing import cost, worst_case
from fallback.cost.spent import Spent
from fallback.providers.base import Provider
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import OpenAI, undone, unmetered
from tests.unit.fallback.providers.tasks import ASKED_FOR, chat, same, task

STREAMED = pytest.mark.parametrize("stream", [False, True])
RESPONSES = "/v1/responses"
OMNI = "omni-moderation-latest"


async def test_a_chat_is_answered_under_the_asked_name(cloud: Provider, sim: OpenAI) -> None:
    sink, asked = RecordingSink(), chat("gpt-4o-mini")
    assert cloud.unfit(asked) == ""
    spent = await cloud.call(asked, sink)
    assert (sink.status, sink.content_type) == (200, "application/json")
    assert sink.document["model"] == ASKED_FOR
    assert sink.document["choices"][0]["message"]["content"] == "#one two three say"
    assert same(spent, sim)
    [sent] = sim.record.requests
    assert sent.model == "gpt-4o-mini"
    assert "stream_options" not in sent.body
    assert sent.headers["x-client-request-id"] == asked.job.id


async def test_a_stream_passes_without_the_usage_nobody_asked_for(
    cloud: Provider, sim: OpenAI
) -> None:
    sim.pace.cached, sim.pace.reasoning = 2, 7
    sink = RecordingSink()
    spent = await cloud.call(chat("gpt-5-mini", stream=True), sink)
    assert sink.content_type.startswith("text/event-stream")
    assert sink.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in sink.body
    assert all(event["choices"] and event["model"] == ASKED_FOR for event in sink.events)
    assert same(spent, sim)
    assert spent.completion == 4 + 7
    assert sim.record.requests[0].body["stream_options"] == {"include_usage": True}


async def test_a_stream_passes_with_the_usage_that_was_asked_for(
    cloud: Provider, sim: OpenAI
) -> None:
    sink = RecordingSink()
    asked = chat("gpt-4o", stream=True, stream_options={"include_usage": True}, n=2)
    spent = await cloud.call(asked, sink)
    last = sink.events[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == spent.completion
    assert same(spent, sim)


@STREAMED
async def test_tools_and_schemas_pass(cloud: Provider, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    sink = RecordingSink()
    await cloud.call(chat("gpt-4o", "please look", stream=stream, tools=[tool]), sink)
    choice: dict[str, Any] = (
        sink.events[-1]["choices"][0] if stream else sink.document["choices"][0]
    )
    assert choice["finish_reason"] == "tool_calls"


async def test_the_limit_has_its_new_name_for_models_that_reason(
    cloud: Provider, sim: OpenAI
) -> None:
    await cloud.call(chat("o3-mini", max_tokens=2), RecordingSink())
    body = sim.record.requests[0].body
    assert body["max_completion_tokens"] == 2
    assert "max_tokens" not in body


async def test_hints_and_endless_limits_stay_here(cloud: Provider, sim: OpenAI) -> None:
    asked = chat("gpt-4o", cache_prompt=True, keep_alive="5m", max_tokens=-1, seed=3)
    assert cloud.unfit(asked) == ""
    await cloud.call(asked, RecordingSink())
    assert sim.record.requests[0].body.keys() == {"model", "messages", "seed"}


@STREAMED
async def test_a_lenient_client_is_served_without_what_would_be_lost(
    cloud: Provider, sim: OpenAI, stream: bool
) -> None:
    asked = chat("gpt-4o", grammar="root ::= .", lenient=True, stream=stream)
    assert cloud.unfit(asked) == ""
    await cloud.call(asked, RecordingSink())
    assert "grammar" not in sim.record.requests[0].body


async def test_completions_are_metered(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = task("/v1/completions", "gpt-3.5-turbo-instruct", prompt="go #on now", stream=True)
    spent = await cloud.call(asked, sink)
    assert "".join(e["choices"][0]["text"] for e in sink.events) == "#on now go"
    assert same(spent, sim)


async def test_embeddings(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = task("/v1/embeddings", "text-embedding-3-small", input=["a b", "c"], dimensions=8)
    spent = await cloud.call(asked, sink)
    assert [len(each["embedding"]) for each in sink.document["data"]] == [8, 8]
    assert same(spent, sim)
    assert spent == Spent(prompt=3)


async def test_moderations_are_free(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = task("/v1/moderations", OMNI, input=["what violence", "peace"])
    spent = await cloud.call(asked, sink)
    assert [each["flagged"] for each in sink.document["results"]] == [True, False]
    assert sink.document["model"] == ASKED_FOR
    assert sim.record.requests[0].body["input"] == ["what violence", "peace"]
    free = Prices().of("openai", "openai", OMNI)
    assert free is not None
    assert worst_case("/v1/moderations", asked.request, 99, free) == cost(spent, free) == 0


@STREAMED
async def test_responses_are_kept_by_nobody(cloud: Provider, sim: OpenAI, stream: bool) -> None:
    sink = RecordingSink()
    spent = await cloud.call(task(RESPONSES, "gpt-4.1", input="tell #me all", stream=stream), sink)
    assert same(spent, sim)
    assert spent.completion == 3
    assert sim.record.requests[0].body["store"] is False
    whole = sink.events[-1]["response"] if stream else sink.document
    assert whole["model"] == ASKED_FOR
    assert whole["status"] == "completed"


@STREAMED
async def test_what_is_not_told_is_counted(cloud: Provider, sim: OpenAI, stream: bool) -> None:
    sim.faults.add(unmetered())
    spent = await cloud.call(chat("gpt-4o", "#a b c d e f g h", stream=stream), RecordingSink())
    assert not spent.told
    assert spent.completion == (8 if stream else 4)
    assert spent.prompt > 0


async def test_a_whole_answer_need_not_say_that_it_is_over(cloud: Provider, sim: OpenAI) -> None:
    sim.faults.add(undone())
    sink = RecordingSink()
    spent = await cloud.call(chat("gpt-4o", stream=True), sink)
    assert same(spent, sim)
    assert sink.body.endswith(b"data: [DONE]\n\n")


async def test_connections_are_kept(cloud: Provider, sim: OpenAI) -> None:
    for stream in (False, True, False, True):
        await cloud.call(chat("gpt-4o", stream=stream), RecordingSink())
    assert len(sim.record.requests) == 4
    assert sim.record.connections == 1

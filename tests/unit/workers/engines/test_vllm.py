"""vLLM, simulated from its recorded answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import pytest

from schemas.api import endpoints
from schemas.frames import End
from tests.doubles.base import DONE
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.vllm.server import Vllm
from tests.doubles.vllm.wire import RECORDED
from workers.engines.base import EngineFault
from workers.engines.vllm import VllmEngine

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
async def server() -> AsyncIterator[Vllm]:
    async with Vllm(max_num_seqs=2) as running:
        yield running


@pytest.fixture
async def engine(server: Vllm) -> AsyncIterator[VllmEngine]:
    async with serving(server) as made:
        yield made


def serving(server: Vllm) -> AbstractAsyncContextManager[VllmEngine]:
    return opened(VllmEngine(config("vllm", server.url)))


REFUSALS: list[tuple[str, str, str | None]] = [
    ("chat_max_too_big", "invalid_request", "max_tokens"),
    ("chat_n99", "invalid_request", None),
    ("chat_empty_messages", "invalid_request", None),
    ("chat_tools_auto", "unsupported_parameter", "tools"),
    ("chat_tools_named", "unsupported_parameter", "tools"),
    ("chat_tools_required", "unsupported_parameter", "tools"),
    ("completions_suffix", "invalid_request", "suffix"),
    ("err_completions_noprompt", "invalid_request", "prompt"),
    ("err_content_type", "invalid_request", "messages[0].content"),
    ("err_image", "invalid_request", None),
    ("err_json_schema_bad", "invalid_request", None),
    ("err_max_tokens_neg", "invalid_request", "max_tokens"),
    ("err_messages_type", "invalid_request", "messages"),
    ("err_no_messages", "invalid_request", "messages"),
    ("err_temp_type", "invalid_request", "temperature"),
    ("err_too_long", "context_length_exceeded", "messages"),
    ("err_too_long_stream", "context_length_exceeded", "messages"),
    ("messages_err", "invalid_request", "messages"),
]


async def test_its_refusals_reach_the_client_in_openais_words(
    subtests: pytest.Subtests, engine: VllmEngine
) -> None:
    for case, code, param in REFUSALS:
        with subtests.test(case):
            asked = RECORDED[case]["request"]
            body = orjson.loads(asked["body"].replace("@long", "word " * 9000))
            streamed = bool(body.get("stream"))
            answer = await ask(engine, job("tiny", asked["path"], stream=streamed), body)

            assert answer.status == RECORDED[case]["status"] == 400
            assert (answer.error["code"], answer.error["param"]) == (code, param)
            assert "{'" not in answer.error["message"], "no Python in it"
            assert "(parameter=" not in answer.error["message"]


async def test_pydantics_errors_become_sentences(engine: VllmEngine) -> None:
    answer = await ask(engine, job("tiny", "/v1/messages"), {})
    union = await ask(engine, job("tiny"), {"messages": [{"role": "user", "content": 5}]})

    assert answer.error["message"] == "messages: Field required; max_tokens: Field required."
    assert union.error["message"] == "messages[0].content: Input should be a valid string."


async def test_any_name_of_the_model_will_do(server: Vllm, engine: VllmEngine) -> None:
    """vLLM itself answers 404 to every name but its own (and takes none at all)."""
    for more in ({"model": "gpt-4o-mini"}, {}):
        answer = await ask(engine, job("tiny"), chat("hello", **more))
        assert answer.document["model"] == "tiny"

    assert {body["model"] for body in server.asked(CHAT)[-2:]} == {"tiny"}


async def test_usage_is_right_for_several_choices_and_prompts(engine: VllmEngine) -> None:
    body = orjson.dumps(chat("a b c", n=2, temperature=1, max_completion_tokens=3))
    sink = RecordingSink()
    end = await engine.run(job("tiny"), body, sink)
    texts = {"prompt": ["a b", "c"], "max_tokens": 2}
    ended = await engine.run(job("tiny", "/v1/completions"), orjson.dumps(texts), RecordingSink())

    assert [choice["index"] for choice in sink.document["choices"]] == [0, 1]
    assert end == End(17, 6, 0, end.engine_ms)
    assert ended.completion_tokens == 4


async def test_its_stream_is_passed_on_with_its_habits(engine: VllmEngine) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = chat("a b", stream=True, stream_options=options, logprobs=True, top_logprobs=2)
    answer = await ask(engine, job("tiny", stream=True), body)
    first, *_, last, usage = answer.events

    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["delta"]["content"] == " b", "the reason comes with the last text"
    assert len(last["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("last", "more", "continued"),
    [
        ({"role": "assistant", "content": "The capital"}, {}, ["The capital"]),
        ({"role": "user", "content": "Go"}, {}, []),
        ({"role": "assistant", "content": "The"}, {"add_generation_prompt": True}, []),
        ({"role": "assistant", "content": "", "tool_calls": []}, {}, []),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_prefilled_answer_is_continued(
    server: Vllm,
    engine: VllmEngine,
    last: dict[str, Any],
    more: dict[str, Any],
    continued: list[str],
    streamed: bool,
) -> None:
    body = {"messages": [{"role": "user", "content": "Say"}, last], "stream": streamed, **more}
    answer = await ask(engine, job("tiny", stream=streamed), body)

    assert answer.status == 200
    assert server.begins == continued


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_an_error_behind_the_first_words_is_a_fault_despite_done(
    server: Vllm, engine: VllmEngine, path: str
) -> None:
    server.fail_after = 1
    sink = RecordingSink()
    body = orjson.dumps({**chat("a b c"), "prompt": "a b c", "stream": True})
    with pytest.raises(EngineFault, match="EngineCore encountered an issue") as caught:
        await engine.run(job("tiny", path, stream=True), body, sink)

    assert caught.value.retryable
    assert b"error" not in sink.body
    assert DONE not in sink.body
    with pytest.raises(EngineFault, match="EngineCore"):
        await ask(engine, job("tiny", path), {**chat("a b c"), "prompt": "a b c"})


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_streams_that_end_without_done_are_whole_or_not(
    server: Vllm, engine: VllmEngine, path: str
) -> None:
    body = {**chat("a b c", max_tokens=3), "input": "a b c", "stream": True}
    sink = RecordingSink()
    end = await engine.run(job("tiny", path, stream=True), orjson.dumps(body), sink)
    server.fail_after = 1
    with pytest.raises(EngineFault, match="before its end was said"):
        await ask(engine, job("tiny", path, stream=True), body)

    assert DONE not in sink.body
    assert (end.prompt_tokens, end.completion_tokens) == (17, 3)


async def test_a_waiting_stream_has_no_head(server: Vllm, engine: VllmEngine) -> None:
    server.may_generate.clear()
    body = orjson.dumps(chat("a b", stream=True))
    sinks, before = [RecordingSink() for _ in range(3)], len(server.asked(CHAT))
    runs = [asyncio.create_task(engine.run(job("tiny", stream=True), body, s)) for s in sinks]
    await server.sent(CHAT, before + 3)
    await server.seen("started", 2)
    load = server.slots.running, server.slots.waiting
    assert not any(sink.status for sink in sinks), "it sends a head at once, but may still fail"
    server.may_generate.set()
    await asyncio.gather(*runs)

    assert load == (2, 1)
    assert [sink.text for sink in sinks] == ["a b"] * 3


async def test_a_waiting_client_that_leaves_is_forgotten(server: Vllm, engine: VllmEngine) -> None:
    server.may_generate.clear()
    body = orjson.dumps(chat("a b"))
    before = len(server.asked(CHAT))
    runs = [asyncio.create_task(engine.run(job("tiny"), body, RecordingSink())) for _ in range(3)]
    await server.sent(CHAT, before + 3)
    await server.seen("started", 2)
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)
    await server.seen("left", 3)
    server.may_generate.set()

    assert (server.slots.running, server.slots.waiting) == (0, 0)


@pytest.mark.parametrize("field", ["grammar", "return_progress", "functions"])
async def test_what_it_would_pass_over_is_refused(engine: VllmEngine, field: str) -> None:
    answer = await ask(engine, job("tiny"), chat("x", **{field: "y"}))

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", field)
    assert field in answer.error["message"]


async def test_a_lenient_client_gets_an_answer_all_the_same(engine: VllmEngine) -> None:
    body = chat("x", grammar="root ::= x")
    plain = chat("x", grammar=None, cache_prompt=True)

    assert (await ask(engine, job("tiny", lenient=True), body)).status == 200
    assert (await ask(engine, job("tiny"), plain)).status == 200


async def test_tools_are_called_where_there_is_a_parser() -> None:
    body = chat("hello", tools=[TOOL], tool_choice="required")
    async with Vllm(parser=True) as server, serving(server) as engine:
        answer = await ask(engine, job("tiny"), body)
        streamed = await ask(engine, job("tiny", stream=True), {**body, "stream": True})

    (choice,) = answer.document["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    calls = [c["delta"].get("tool_calls") for e in streamed.events for c in e["choices"]]
    assert calls[-1][0]["function"] == {"name": "weather", "arguments": "{}"}


async def test_a_schema_holds(engine: VllmEngine) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    answer = await ask(engine, job("tiny"), chat("x", response_format=form))

    content = answer.document["choices"][0]["message"]["content"]
    assert orjson.loads(content).keys() == {"city"}


async def test_thoughts_have_the_name_that_clients_look_for(
    server: Vllm, engine: VllmEngine
) -> None:
    server.thinks = 'say "hi"'
    whole = await ask(engine, job("tiny"), chat("hi"))
    streamed = await ask(engine, job("tiny", stream=True), chat("hi", stream=True))
    message = whole.document["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == 'say "hi"'
    deltas = [choice["delta"] for event in streamed.events for choice in event["choices"]]
    assert [d["reasoning_content"] for d in deltas if "reasoning_content" in d] == ['say "hi"']
    assert streamed.text == "hi"


@pytest.mark.parametrize("asked", [{"content": "a b"}, {"prompt": "a b"}])
async def test_a_text_is_tokenized_in_either_form(
    engine: VllmEngine, asked: dict[str, Any]
) -> None:
    answer = await ask(engine, job("tiny", endpoints.TOKENIZE.path), asked)
    assert answer.document == {"tokens": [0, 1], "count": 2, "max_model_len": 1024}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"content": ["a", 5]}, "content"),
        ({"content": "a", "parse_special": False}, "parse_special"),
    ],
)
async def test_what_only_llama_server_can_tokenize_is_refused(
    engine: VllmEngine, asked: dict[str, Any], param: str
) -> None:
    answer = await ask(engine, job("tiny", endpoints.TOKENIZE.path), asked)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_json": {"type": "object"}, "guided_regex": None}, {"json": {"type": "object"}}),
        ({"guided_regex": "a", "structured_outputs": {"regex": "b"}}, {"regex": "b"}),
        ({"guided_regex": "a", "structured_outputs": None}, {"regex": "a"}),
        *(({"guided_regex": "a", "structured_outputs": odd}, odd) for odd in ("b", [1], 2, True)),
    ],
)
async def test_words_that_it_gave_up_are_said_in_those_of_today(
    server: Vllm, engine: VllmEngine, asked: dict[str, Any], told: dict[str, Any]
) -> None:
    assert (await ask(engine, job("tiny"), chat("x", **asked))).status == 200
    assert server.structured[-1] == told

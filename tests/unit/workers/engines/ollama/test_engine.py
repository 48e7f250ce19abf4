"""Ollama, simulated from its source."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from schemas.frames import End
from tests.doubles.base import DONE
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, job
from tests.doubles.ollama.server import Ollama
from tests.unit.workers.engines.ollama.setup import (
    CITY,
    COMPLETIONS,
    EMBEDDINGS,
    TOOL,
    models,
    serving,
    tiny,
)
from workers.engines.base import EngineFault
from workers.engines.ollama.engine import OllamaEngine


@pytest.mark.parametrize("usage", [True, False])
async def test_a_streamed_chat_passes_as_it_is(engine: OllamaEngine, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    sink = RecordingSink()
    body = orjson.dumps(chat("one two", model="tiny:latest", stream=True, **options))
    end = await engine.run(tiny(stream=True), body, sink)
    first, second, finish, *rest = sink.events

    assert (sink.status, sink.content_type) == (200, "text/event-stream")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "one"}
    assert second["choices"][0]["delta"] == {"content": " two"}
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert first["system_fingerprint"] == "fp_ollama"
    assert {event["id"] for event in sink.events} == {"chatcmpl-" + "0" * 32}, "the job's"
    assert sink.body.endswith(DONE)
    assert [event["choices"] for event in rest] == ([[]] if usage else [])
    assert end == (End(3, 2, 0, end.engine_ms) if usage else End(engine_ms=end.engine_ms))


async def test_zeros_in_every_chunk_of_a_completion_are_not_its_usage(
    engine: OllamaEngine,
) -> None:
    body = {"prompt": "a b c", "stream": True, "stream_options": {"include_usage": True}}
    sink = RecordingSink()
    end = await engine.run(tiny(COMPLETIONS, stream=True), orjson.dumps(body), sink)

    assert sink.events[0]["usage"]["total_tokens"] == 0
    assert (end.prompt_tokens, end.completion_tokens) == (4, 3)


@pytest.mark.parametrize("streamed", [True, False])
async def test_max_completion_tokens_goes_as_max_tokens(
    server: Ollama, engine: OllamaEngine, streamed: bool
) -> None:
    body = chat("a b c d", max_completion_tokens=2, stream=streamed)
    answer = await ask(engine, tiny(stream=streamed), body)
    both = await ask(engine, tiny(), chat("a b c d", max_completion_tokens=2, max_tokens=3))

    assert server.asked(CHAT)[-2]["max_tokens"] == 2
    assert both.document["usage"]["completion_tokens"] == 3
    if streamed:
        assert answer.text == "a b"
    else:
        assert answer.document["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize("kept", ["5m", 0, -1, "1h30m"])
async def test_how_long_a_model_stays_loaded_is_said_by_its_own_api(
    server: Ollama, engine: OllamaEngine, path: str, kept: Any, streamed: bool
) -> None:
    """Its OpenAI endpoints pass over it."""
    body = {"prompt": "a b"} if path != CHAT else chat("a b")
    asked = {**body, "keep_alive": kept, "stream": streamed}
    answer = await ask(engine, job("tiny:latest", path, stream=streamed), asked)
    assert answer.status == 200
    assert server.asked("/api/generate") == [{"model": "tiny:latest", "keep_alive": kept}]
    paths = [event.about[0] for event in server.events if event.what == "asked"]
    assert paths[-1] == "/api/generate", "after the answer: 0 unloads the model"
    await ask(engine, job("tiny:latest", path), body)
    assert len(server.asked("/api/generate")) == 1, "who says nothing changes nothing"


async def test_an_odd_answer_to_how_long_harms_no_answer_that_is_out(
    engine: OllamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(*_: object) -> tuple[int, bytes]:
        return 500, b"\xff"

    monkeypatch.setattr(engine._http, "post", odd)
    answer = await ask(engine, tiny(), chat("a b", keep_alive=5))
    assert answer.status == 200


@pytest.mark.parametrize("kept", ["soon", "5", True, [5]])
async def test_how_long_must_be_a_time(engine: OllamaEngine, kept: Any) -> None:
    answer = await ask(engine, tiny(), chat("a", keep_alive=kept))
    assert (answer.status, answer.error["param"]) == (400, "keep_alive")


async def test_no_tokens_is_not_no_limit(engine: OllamaEngine) -> None:
    body = {"prompt": "a", "max_tokens": 0}
    answer = await ask(engine, job("tiny:latest", "/v1/completions"), body)
    assert (answer.status, answer.error["param"]) == (400, "max_tokens")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logit_bias", {"5": 1}),
        ("modalities", ["text", "audio"]),
        ("json_schema", {"type": "object"}),
        ("n_predict", 5),
        ("max_output_tokens", 5),
        ("system", "Be brief."),
        ("grammar", "root ::= x"),
        ("options", {"num_ctx": 8192}),
    ],
)
async def test_what_it_would_pass_over_is_refused(
    server: Ollama, engine: OllamaEngine, field: str, value: object
) -> None:
    answer = await ask(engine, tiny(), chat("x", **{field: value}))

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", field)
    assert server.asked(CHAT) == []
    lenient = await ask(engine, tiny(lenient=True), chat("x", **{field: value}))
    assert lenient.status == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("n", None),
        ("tool_choice", "auto"),
        ("parallel_tool_calls", True),
        ("parallel_tool_calls", False),
        ("logit_bias", {}),
        ("user", "someone"),
    ],
)
async def test_what_asks_for_nothing_is_not(
    engine: OllamaEngine, field: str, value: object
) -> None:
    assert (await ask(engine, tiny(), chat("x", **{field: value}))).status == 200


@pytest.mark.parametrize(("field", "value"), [("logprobs", 2), ("echo", True), ("best_of", 3)])
async def test_completions_pass_over_more(engine: OllamaEngine, field: str, value: object) -> None:
    answer = await ask(engine, tiny(COMPLETIONS), {"prompt": "x", field: value})

    assert answer.error["param"] == field


async def test_no_tools_means_none(server: Ollama, engine: OllamaEngine) -> None:
    called = await ask(engine, tiny(stream=True), chat("weather", tools=[TOOL], stream=True))
    plain = await ask(engine, tiny(), chat("weather", tools=[TOOL], tool_choice="none"))

    deltas = [choice["delta"] for event in called.events for choice in event["choices"]]
    (calls,) = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert calls[0]["function"] == {"name": "weather", "arguments": "{}"}, "whole in one chunk"
    assert called.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert plain.document["choices"][0]["message"] == {"role": "assistant", "content": "weather"}
    assert server.asked(CHAT)[-1]["tools"] == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": TOOL["function"]}])
async def test_a_choice_of_a_tool_is_tried(
    engine: OllamaEngine, choice: object, streamed: bool
) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "stream": streamed}
    called = await ask(engine, tiny(stream=streamed), chat("weather", **fields))
    assert (called.status, b'"tool_calls"' in called.body) == (200, True)
    talked = await ask(engine, tiny(stream=streamed), chat("hello", **fields))
    assert (talked.status, talked.error["param"]) == (502, "tool_choice")
    assert "leaves it to the model" in talked.error["message"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_of_calls_that_are_wanted_one_by_one_the_first_comes(
    engine: OllamaEngine, streamed: bool
) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("weather", "time")]
    fields: dict[str, Any] = {"tools": tools, "stream": streamed}
    both = await ask(engine, tiny(stream=streamed), chat("weather time", **fields))
    assert both.body.count(b'"id":"call_') == 2, "by itself it makes both"
    fields["parallel_tool_calls"] = False
    one = await ask(engine, tiny(stream=streamed), chat("weather time", **fields))
    assert one.body.count(b'"id":"call_') == 1
    assert b'"finish_reason":"tool_calls"' in one.body


@pytest.mark.parametrize(
    ("endpoint", "body", "says"),
    [
        (CHAT, {"messages": []}, "too short"),
        (CHAT, {"messages": [{"role": "user", "content": None}]}, "content type"),
        (
            CHAT,
            chat([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]),
            "image URLs are not currently supported",
        ),
        (
            CHAT,
            chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]),
            "invalid image input",
        ),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "cannot unmarshal array"),
    ],
)
async def test_its_refusals_reach_the_client(
    engine: OllamaEngine, endpoint: str, body: dict[str, Any], says: str
) -> None:
    answer = await ask(engine, tiny(endpoint), body)

    assert answer.status == 400
    assert says in answer.error["message"]
    assert answer.error["code"] == "invalid_request", "Ollama's own code is null"


@pytest.mark.parametrize("tokens", [[1, 2], [[1], [2]]])
@pytest.mark.parametrize(
    ("endpoint", "model", "param"),
    [(COMPLETIONS, "tiny:latest", "prompt"), (EMBEDDINGS, "minilm:latest", "input")],
)
async def test_token_ids_are_refused_in_words(
    engine: OllamaEngine, endpoint: str, model: str, param: str, tokens: Any
) -> None:
    answer = await ask(engine, job(model, endpoint), {param: tokens})

    assert (answer.status, answer.error["param"]) == (400, param)
    assert answer.error["message"] == "Ollama takes texts, and no token ids."


async def test_a_picture_in_base64_is_taken(engine: OllamaEngine) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    answer = await ask(engine, tiny(), chat([picture, {"type": "text", "text": "what is this"}]))

    assert answer.document["choices"][0]["message"]["content"] == "what is this"


async def test_a_full_queue_is_tried_elsewhere_and_casts_no_doubt() -> None:
    async with Ollama(*models(), max_queue=0) as server, serving(server) as engine:
        with pytest.raises(EngineFault, match="maximum pending requests") as caught:
            await ask(engine, tiny(), chat("x"))
        with pytest.raises(EngineFault, match="maximum pending requests"):
            await ask(engine, job("minilm:latest", EMBEDDINGS), {"input": "x"})

    assert caught.value.retryable
    assert not caught.value.away


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, "/v1/responses", "/v1/messages"])
async def test_an_error_behind_the_first_words_is_a_fault(
    server: Ollama, engine: OllamaEngine, endpoint: str
) -> None:
    """It becomes an empty chunk, and the stream just ends."""
    server.fail_after = 1
    sink = RecordingSink()
    prompt = {COMPLETIONS: "prompt", "/v1/responses": "input"}.get(endpoint, "odd")
    body = {**chat("a b c"), prompt: "a b c", "max_tokens": 9, "stream": True}
    with pytest.raises(EngineFault, match="before its end was said") as caught:
        await engine.run(tiny(endpoint, stream=True), orjson.dumps(body), sink)
    with pytest.raises(EngineFault, match="an error was encountered"):
        await ask(engine, tiny(endpoint), {**body, "stream": False})

    assert caught.value.retryable
    assert DONE not in sink.body
    if endpoint == CHAT:
        assert sink.events[-1]["choices"][0] == {
            "index": 0,
            "delta": {"content": ""},
            "finish_reason": None,
        }


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_frees_its_slot(
    server: Ollama, engine: OllamaEngine, streamed: bool
) -> None:
    server.may_generate.clear()
    body = orjson.dumps(chat("a b c", stream=streamed))
    run = asyncio.create_task(engine.run(tiny(stream=streamed), body, RecordingSink()))
    await server.seen("started")
    run.cancel()
    await asyncio.wait({run})
    await server.seen("left")
    server.may_generate.set()

    assert run.cancelled()
    assert server.slots.running == 0


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/messages"])
async def test_responses_and_messages_tell_their_tokens(
    engine: OllamaEngine, endpoint: str, streamed: bool
) -> None:
    body = {**chat("a b c", max_tokens=2), "input": "a b c", "max_output_tokens": 2}
    sink = RecordingSink()
    end = await engine.run(
        tiny(endpoint, stream=streamed), orjson.dumps({**body, "stream": streamed}), sink
    )

    assert sink.status == 200
    assert (end.prompt_tokens, end.completion_tokens) == (4, 2)


async def test_a_schema_holds(engine: OllamaEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "r", "schema": CITY}}
    answer = await ask(engine, tiny(), chat("x", response_format=form))

    content = answer.document["choices"][0]["message"]["content"]
    assert orjson.loads(content) == {"city": "word"}

"""llama-server's engine against its simulator; what the real one says: tests/acceptance."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from schemas.api.sse import BREAK, split
from schemas.frames import End
from schemas.nodes import Ignored, names_at
from tests.doubles.base import DONE, sse
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.script import chunk, fault
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from workers.engines import KINDS
from workers.engines.base import EngineFault
from workers.engines.llamacpp.engine import RERANK, LlamaCppEngine


async def described(server: LlamaCpp, **more: Any) -> Any:
    engine = LlamaCppEngine(config("llamacpp", server.url, **more))
    async with opened(engine):
        return (await engine.discover()).models


# What it says of itself.


def first(ignores: tuple[Ignored, ...]) -> dict[str, Ignored]:
    """By name, of several endpoints the first."""
    return {each.field: each for each in reversed(ignores)}


USUAL: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "suffix": "",
    "tools": [],
    "functions": [],
    "modalities": ["text"],
    "function_call": "auto",
    "tool_choice": "auto",
    "audio": None,
    "verbosity": "medium",
    "reasoning_effort": "medium",
    "stop": [],
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logprobs": False,
    "top_logprobs": 0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "reasoning": {"effort": "medium", "summary": "auto"},
    "include": [],
    "background": False,
    "previous_response_id": None,
    "seed": None,
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high", "format": None},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "mcp_servers": [],
}
"""What clients send without asking for anything."""


async def test_what_a_chat_server_can_do_and_what_it_ignores(server: LlamaCpp) -> None:
    (model,) = await described(server)
    assert (model.id, model.slots, model.context, model.modalities) == ("own", 32, 2048, ("text",))
    assert set(model.features) == {
        *("chat", "chat_tokens", "completions", "responses", "messages", "count_tokens"),
        *("json_schema", "logprobs", "n", "tools", "completions:resume"),
    }
    ignored = first(model.ignores)
    assert not any(each.wanted({"tools": [{}]}) and "chat" in each.at for each in model.ignores)
    assert "tool_choice" not in ignored, "a call is forced where it must come"
    assert "embeddings" not in ignored["dimensions"].at, "it has none"
    assert ignored["keep_alive"].wanted({"keep_alive": 0})
    assert names_at(model.knows, "embeddings") is None
    assert {"grammar", "min_p"} < (names_at(model.knows, "chat") or set())
    assert not ignored["modalities"].wanted({"modalities": ["text"]})
    assert ignored["modalities"].wanted({"modalities": ["text", "audio"]})
    assert ignored["text.verbosity"].wanted({"text": {"verbosity": "low"}})
    assert "user" not in ignored
    assert not any(each.wanted(USUAL) for each in model.ignores)
    assert ignored["web_search_options"].wanted({"web_search_options": {}}), "the usual search"
    assert KINDS["llamacpp"] is LlamaCppEngine


@pytest.mark.parametrize(
    ("prompt", "goes_on"),
    [
        ({"prompt": "<user>Say yes.<assistant>Yes, I"}, True),
        ({"prompt": "<user>Say yes.<assistant>Yes, I<end>"}, False),
        ({"text": "Yes, I"}, False),
        ({"prompt": None}, False),
        ([], False),
    ],
)
async def test_a_template_that_leaves_the_last_message_open(
    server: LlamaCpp, prompt: Any, goes_on: bool
) -> None:
    server.documents["/apply-template"] = 200, prompt
    (model,) = await described(server)
    chats = {f"{path}:resume" for path in ("chat/completions", "responses", "messages")}
    assert chats.issubset(model.features) == goes_on
    assert "completions:resume" in model.features


async def test_an_embedding_server_has_embeddings_alone(server: LlamaCpp) -> None:
    no_logits = "the current context does not support logits computation. skipping"
    server.documents[CHAT] = fault(500, no_logits, "server_error")
    server.documents["/v1/embeddings"] = fault(400, '"input" must be provided')
    (model,) = await described(server)
    assert model.features == ("embeddings",)
    fields = first(model.ignores)
    assert fields.keys() == {"dimensions", "options", "keep_alive"}
    dimensions = fields["dimensions"]
    assert "576" in dimensions.why
    assert [dimensions.wanted({"dimensions": n}) for n in (16, 576)] == [True, False]


async def test_a_reranker_ranks(server: LlamaCpp) -> None:
    server.documents[CHAT] = fault(500, "no logits", "server_error")
    server.documents["/v1/embeddings"] = server.documents["/v1/rerank"] = fault(400, "empty")
    (model,) = await described(server)
    assert model.features == ("rerank",)


async def test_documents_with_a_text_are_ranked_as_texts(server: LlamaCpp) -> None:
    """llama-server takes strings alone."""
    server.documents[CHAT] = fault(500, "no logits", "server_error")
    server.documents["/v1/embeddings"] = server.documents[RERANK] = fault(400, "empty")
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        server.documents[RERANK] = 200, {"results": [{"index": 0}]}
        body = {"query": "x", "documents": [{"text": "a", "title": "t"}, "b"]}
        assert (await ask(engine, job("own", RERANK), body)).status == 200
        assert server.asked(RERANK)[-1]["documents"] == ["a", "b"]
        server.documents[RERANK] = fault(500, "input (9 tokens) is too large to process.")
        long = await ask(engine, job("own", RERANK), body)
    assert (long.error["code"], long.error["param"]) == ("context_length_exceeded", "documents")


async def test_the_engines_own_name_for_the_input_becomes_openais(server: LlamaCpp) -> None:
    """For its own name, the engine's answer has a form of its own."""
    path = "/v1/embeddings"
    server.documents[CHAT] = fault(500, "no logits", "server_error")
    server.documents[path] = fault(400, "empty")
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        server.documents[path] = 200, {"data": [{"embedding": [0.5], "index": 0}]}
        assert (await ask(engine, job("own", path), {"content": "a"})).status == 200
        assert server.asked(path)[-1]["input"] == "a"
        await ask(engine, job("own", path), {"input": ["b"]})
        assert server.asked(path)[-1] == {"input": ["b"]}


async def test_a_template_that_thinks_takes_an_effort(server: LlamaCpp) -> None:
    server.props["chat_template"] = "{% if enable_thinking %}<think>{% endif %}"
    (model,) = await described(server)
    ignored = first(model.ignores)
    assert "reasoning" in model.features
    assert "thinking" not in ignored
    assert "reasoning_effort" not in ignored
    server.props["chat_template_caps"]["supports_reasoning_effort"] = True
    (model,) = await described(server)
    assert "reasoning_effort" not in {each.field for each in model.ignores}


async def test_senses_come_from_the_modalities(server: LlamaCpp) -> None:
    server.props["modalities"]["vision"] = True
    (model,) = await described(server)
    assert model.modalities == ("text", "vision")


async def test_names_of_the_config_stand_for_the_one_model(server: LlamaCpp) -> None:
    for own, public in (("/models/some.gguf", "some"), ("org/name", "org/name")):
        async with LlamaCpp(Settings(model=own)) as named:
            assert [m.id for m in await described(named)] == [public]
    models = await described(server, models=["a", "b"], slots=2)
    assert [(m.id, m.slots) for m in models] == [("a", 2), ("b", 2)]


async def test_something_else_behind_the_url_is_a_fault(server: LlamaCpp) -> None:
    server.props = {"hello": "world"}
    with pytest.raises(EngineFault, match="does not answer like llama-server"):
        await described(server)


async def test_a_probe_asks_the_inference_loop(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    assert await engine.probe()
    assert len(server.asked("/slots")) == 1


# What it answers.


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    server.streams[CHAT] = [(DATA / "chat.sse").read_bytes()]
    sink = await ask(
        engine, job("own", stream=stream, asked="gpt-4o-mini"), chat("hi", stream=stream)
    )
    body = sink.events[0] if stream else sink.document
    assert body["model"] == "gpt-4o-mini"
    assert server.asked(CHAT)[-1]["stream"] is True
    if not stream:
        assert server.asked(CHAT)[-1]["stream_options"] == {"include_usage": True}


async def test_a_streamed_chat_passes_byte_by_byte(
    server: LlamaCpp, engine: LlamaCppEngine
) -> None:
    begun = chunk({"role": "assistant", "content": ""})
    server.streams[CHAT] = [begun, chunk({"content": '"n" "model":"x"'}), chunk({}, "stop"), DONE]
    asked = b' {"messages": [], "stream": true, "odd": 1.50}'
    sink = RecordingSink()
    await engine.run(job("own", stream=True), asked, sink)
    assert sink.body == b"".join(server.streams[CHAT])


async def test_several_choices_are_counted_once_in_a_stream(
    server: LlamaCpp, engine: LlamaCppEngine
) -> None:
    server.streams[CHAT] = [(DATA / "n2.sse").read_bytes()]
    body = chat("hi", stream=True, n=2, stream_options={"include_usage": True})
    sink = RecordingSink()
    end = await engine.run(job("own", stream=True), orjson.dumps(body), sink)
    usages = [event["usage"] for event in sink.events if event.get("usage")]
    assert len(usages) == 1
    assert sink.events[-1]["choices"] == []
    assert usages[0]["completion_tokens"] == end.completion_tokens > 0
    assert sink.body.endswith(DONE)


@pytest.mark.parametrize("stream", [False, True])
async def test_probabilities_of_text_are_as_openai_has_them(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    whole = orjson.loads((DATA / "completions_logprobs.json").read_bytes())
    content = whole["choices"][0]["logprobs"]["content"]
    server.streams["/v1/completions"] = [
        *(
            sse(
                {
                    **whole,
                    "choices": [{"text": t["token"], "index": 0, "logprobs": {"content": [t]}}],
                }
            )
            for t in content
        ),
        DONE,
    ]
    body = {"prompt": "Once upon", "logprobs": 2, "stream": stream}
    sink = await ask(engine, job("own", "/v1/completions", stream=stream), body)
    found = [e["choices"][0]["logprobs"] for e in (sink.events if stream else [sink.document])]
    tokens = [token for each in found for token in each["tokens"]]
    offsets = [at for each in found for at in each["text_offset"]]
    assert tokens == [" the", " ancient", " stone"]
    assert offsets == [0, 4, 12]
    assert found[0]["top_logprobs"][0].keys() == {" the", " a"}
    assert found[0]["content"][0]["id"] == 260, "its own form stays"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    server.streams["/v1/responses"] = [(DATA / "responses.sse").read_bytes()]
    schema = {"type": "object"}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    body = {"input": "hi", "stream": stream, "text": text, "max_output_tokens": 40}
    sink = RecordingSink()
    what = job("own", "/v1/responses", stream=stream, asked="asked")
    end = await engine.run(what, orjson.dumps(body), sink)

    sent = server.asked("/v1/responses")[-1]
    assert sent["response_format"]["json_schema"] == {"name": "x", "schema": schema}
    assert end == End(32, 12, 31, end.engine_ms)
    if not stream:
        assert sink.document["model"] == "asked"
        assert sink.document["status"] == "completed"
        assert sink.document["completed_at"] >= sink.document["created_at"]
        return
    assert [event["sequence_number"] for event in sink.events] == list(range(len(sink.events)))
    models = {event["response"]["model"] for event in sink.events if "response" in event}
    assert models == {"asked"}
    deltas = [e for e in sink.events if e["type"] == "response.output_text.delta"]
    assert {(e["output_index"], e["content_index"]) for e in deltas} == {(0, 0)}
    assert b"event: response.completed\ndata: " in sink.body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_was_cut_says_so(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    server.streams["/v1/responses"] = [(DATA / "responses.sse").read_bytes()]
    body = {"input": "hi", "stream": stream, "max_output_tokens": 12}
    sink = await ask(engine, job("own", "/v1/responses", stream=stream), body)
    last = sink.events[-1]["response"] if stream else sink.document
    assert last["status"] == "incomplete"
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert not stream or b"event: response.incomplete\n" in sink.body


async def test_calls_in_a_response_have_an_output_index_of_their_own(
    server: LlamaCpp, engine: LlamaCppEngine
) -> None:
    server.streams["/v1/responses"] = [(DATA / "responses_tool.sse").read_bytes()]
    body = {"input": "hi", "stream": True}
    sink = await ask(engine, job("own", "/v1/responses", stream=True), body)
    for event in sink.events:
        if event["type"] == "response.function_call_arguments.delta":
            assert event["output_index"] == 1
    done = [e for e in sink.events if e["type"] == "response.output_item.done"]
    assert [(e["output_index"], e["item"]["type"]) for e in done] == [
        (0, "message"),
        (1, "function_call"),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message(server: LlamaCpp, engine: LlamaCppEngine, stream: bool) -> None:
    server.streams["/v1/messages"] = [(DATA / "messages.sse").read_bytes()]
    sink = RecordingSink()
    what = job("own", "/v1/messages", stream=stream, asked="claude")
    end = await engine.run(what, orjson.dumps(chat("hi", stream=stream, max_tokens=12)), sink)
    assert end == End(32, 12, 31, end.engine_ms)
    if stream:
        raw = server.streams["/v1/messages"][0]
        named = raw.replace(b'"model":"smollm2"', b'"model":"claude"')
        assert sink.body == re.sub(rb"chatcmpl-\w+", f"msg_{what.id}".encode(), named)
        return
    assert sink.document["id"] == f"msg_{what.id}"
    assert sink.document == {
        "id": sink.document["id"],
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I'm glad you're having a great time. I'm"},
        ],
        "model": "claude",
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"cache_read_input_tokens": 31, "input_tokens": 1, "output_tokens": 12},
    }


async def test_a_message_with_a_call(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    server.streams["/v1/messages"] = [(DATA / "messages_tool.sse").read_bytes()]
    sink = await ask(engine, job("own", "/v1/messages"), chat("hi", max_tokens=99))
    text, call = sink.document["content"]
    assert text["type"] == "text"
    assert (call["type"], call["name"], call["input"]) == (
        "tool_use",
        "get_weather",
        {"city": "Paris"},
    )
    assert sink.document["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message_that_began_with_half_a_character(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    """Seen of the real one where the first token is a part of an emoji."""
    raw = (DATA / "messages.sse").read_bytes()
    server.streams["/v1/messages"] = [raw[raw.index(b"event: content_block_start") :]]
    server.documents["/v1/messages/count_tokens"] = 200, {"input_tokens": 32}
    sink = RecordingSink()
    what = job("own", "/v1/messages", stream=stream, asked="claude")
    end = await engine.run(what, orjson.dumps(chat("hi", stream=stream, max_tokens=12)), sink)

    assert (end.prompt_tokens, end.completion_tokens) == (32, 12)
    message = sink.events[0]["message"] if stream else sink.document
    assert (message["type"], message["role"], message["model"]) == (
        "message",
        "assistant",
        "claude",
    )
    assert message["usage"]["input_tokens"] == 32
    if stream:
        assert sink.events[0]["type"] == "message_start"
        assert sink.body.endswith(server.streams["/v1/messages"][0])
    else:
        assert message["content"][0]["text"].startswith("I'm glad")
        assert message["usage"]["output_tokens"] == 12


async def test_a_response_begins_once(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    """Seen as above: it then begins anew with each token."""
    raw = (DATA / "responses.sse").read_bytes()
    begun = raw[: raw.index(b"event: response.output_item.added")]
    server.streams["/v1/responses"] = [
        raw.replace(
            b"event: response.output_text.delta", begun + b"event: response.output_text.delta"
        )
    ]
    body = {"input": "hi", "stream": True}
    sink = await ask(engine, job("own", "/v1/responses", stream=True), body)
    kinds = [event["type"] for event in sink.events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.created") == kinds.count("response.in_progress") == 1
    assert [event["sequence_number"] for event in sink.events] == list(range(len(kinds)))


async def test_no_thoughts_where_none_are_wanted(server: LlamaCpp, engine: LlamaCppEngine) -> None:
    server.props["chat_template"] = "<think>"
    await engine.discover()
    server.streams["/v1/messages"] = [(DATA / "messages.sse").read_bytes()]
    await ask(engine, job("own", "/v1/messages"), chat("hi", thinking={"type": "disabled"}))
    sent = server.asked("/v1/messages")[-1]
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("choice", ["none", "auto"])
async def test_no_tools_where_none_may_be_called(
    server: LlamaCpp, engine: LlamaCppEngine, choice: str
) -> None:
    server.props["chat_template_caps"]["supports_tools"] = True
    await engine.discover()
    server.streams["/v1/messages"] = [(DATA / "messages.sse").read_bytes()]
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    body = chat("hi", tools=tools, tool_choice={"type": choice})
    await ask(engine, job("own", "/v1/messages", lenient=True), body)
    assert ("tools" in server.asked("/v1/messages")[-1]) == (choice == "auto")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_sequence_is_the_reason_to_stop(
    server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    raw = (DATA / "messages.sse").read_bytes()
    said = b'"stop_reason":"end_turn","stop_sequence":"o"'
    raw = raw.replace(b'"stop_reason":"max_tokens","stop_sequence":null', said)
    server.streams["/v1/messages"] = [raw]
    sink = await ask(engine, job("own", "/v1/messages", stream=stream), chat("hi", stream=stream))
    assert b'"stop_reason":"stop_sequence","stop_sequence":"o"' in sink.body


@pytest.mark.parametrize(
    ("path", "left"),
    [(CHAT, 6), ("/v1/completions", 6), ("/v1/responses", 9), ("/v1/messages", 5)],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_that_ends_without_its_end_has_failed(
    server: LlamaCpp, engine: LlamaCppEngine, path: str, left: int, stream: bool
) -> None:
    events = list(split(_raw(path)))
    server.streams[path] = [b"".join(event + BREAK for event in events[:left])]
    with pytest.raises(EngineFault, match="before its end") as caught:
        await ask(engine, job("own", path, stream=stream), {"stream": stream})
    assert caught.value.away


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_whose_last_event_alone_is_missing_is_whole(
    server: LlamaCpp, engine: LlamaCppEngine, path: str, stream: bool
) -> None:
    whole = _raw(path)
    answers = []
    for raw in (whole, whole[: whole.rindex(BREAK, 0, -2) + 2]):
        server.streams[path] = [raw]
        body = chat("hi", stream=stream)
        answers.append(await ask(engine, job("own", path, stream=stream), body))
    assert answers[0].body == answers[1].body


def _raw(path: str) -> bytes:
    """A recorded stream of the server."""
    name = {"/v1/responses": "responses", "/v1/messages": "messages"}.get(path, "chat")
    return (DATA / f"{name}.sse").read_bytes().rstrip(b"\n") + BREAK


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_in_the_stream_fails_the_attempt(
    server: LlamaCpp, engine: LlamaCppEngine, path: str, stream: bool
) -> None:
    server.streams[path] = [sse({"error": {"message": "it broke", "code": 500}})]
    with pytest.raises(EngineFault, match="it broke"):
        await ask(engine, job("own", path, stream=stream), {"stream": stream})


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_events_that_are_none_fail_the_attempt(
    server: LlamaCpp, engine: LlamaCppEngine, path: str
) -> None:
    broken = sse({"type": "content_block_delta"}), sse({"type": "response.completed"})
    server.streams[path] = [*broken]
    with pytest.raises(EngineFault):
        await ask(engine, job("own", path), {})


async def test_embeddings_pass_as_they_are(server: LlamaCpp) -> None:
    server.documents["/v1/embeddings"] = fault(400, "input")
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        found = {"model": "own", "data": [{"embedding": [0.5]}], "usage": usage}
        server.documents["/v1/embeddings"] = 200, found
        sink = RecordingSink()
        what = job("own", "/v1/embeddings", asked="asked")
        end = await engine.run(what, b'{"input": "x"}', sink)
        assert sink.document == {**found, "model": "asked"}
        assert end == End(3, 0, 0, end.engine_ms)
        wrong = await ask(engine, job("own", "/v1/embeddings"), {"input": "x", "dimensions": 9})
        assert wrong.error["param"] == "dimensions"
        lenient = job("own", "/v1/embeddings", lenient=True)
        assert (await ask(engine, lenient, {"input": "x", "dimensions": 9})).status == 200


# What it refuses.

TOO_LONG = "request (9031 tokens) exceeds the available context size (2048 tokens)"


REFUSALS: list[tuple[str, tuple[int, Any], int, str, str | None]] = [
    (
        CHAT,
        fault(400, TOO_LONG, "exceed_context_size_error", n_prompt_tokens=9031),
        400,
        "context_length_exceeded",
        "messages",
    ),
    (
        "/v1/completions",
        fault(400, TOO_LONG, "exceed_context_size_error"),
        400,
        "context_length_exceeded",
        "prompt",
    ),
    (
        "/v1/responses",
        fault(400, TOO_LONG, "exceed_context_size_error"),
        400,
        "context_length_exceeded",
        "input",
    ),
    (CHAT, fault(400, "bad grammar"), 400, "invalid_request", "grammar"),
    (CHAT, fault(400, "JSON schema error at #"), 400, "invalid_request", "response_format"),
    ("/v1/messages", fault(400, "JSON schema error at #"), 400, "invalid_request", "tools"),
    (
        "/v1/completions",
        fault(400, "Prompt contains invalid tokens"),
        400,
        "invalid_request",
        "prompt",
    ),
    (
        CHAT,
        fault(500, "image input is not supported - hint", "server_error"),
        400,
        "invalid_request",
        "messages",
    ),
    (
        "/v1/messages",
        fault(500, "'messages' is required", "server_error"),
        400,
        "invalid_request",
        "messages",
    ),
    (
        CHAT,
        fault(500, "Failed to parse messages: type must be string", "server_error"),
        400,
        "invalid_request",
        "messages",
    ),
    *(
        (CHAT, fault(500, said, "server_error"), 400, "invalid_request", param)
        for said, param in (
            ("Failed to parse tool call arguments as JSON: [json.exception.x] y", "messages"),
            ("Failed to parse tools: x", "tools"),
            ("Unknown reasoning format: x", "reasoning_format"),
            ("[json.exception.type_error.302] type must be string", "messages"),
            ("vector::_M_default_append", "messages"),
            ("Cannot use both json_schema and grammar", "grammar"),
            ("Field 'top_k': [json.exception.type_error.302] type must be number", "top_k"),
        )
    ),
    (
        CHAT,
        fault(400, "Cannot continue an assistant message that contains tool calls."),
        400,
        "invalid_request",
        "messages",
    ),
    (
        CHAT,
        fault(400, "Failed to initialize samplers: failed to parse grammar"),
        400,
        "invalid_request",
        "grammar",
    ),
    (
        CHAT,
        fault(400, "Failed to load image or audio file"),
        400,
        "invalid_request",
        "messages",
    ),
    (
        "/v1/completions",
        fault(501, "does not support it", "not_supported_error"),
        400,
        "unsupported_endpoint",
        "model",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_have_openais_words(
    subtests: pytest.Subtests, server: LlamaCpp, engine: LlamaCppEngine, stream: bool
) -> None:
    for path, said, status, code, param in REFUSALS:
        with subtests.test(f"{path!r:.60} {said!r:.60}"):
            server.documents[path] = said
            sink = await ask(engine, job("own", path, stream=stream), {"stream": stream})
            assert (sink.status, sink.error["code"], sink.error["param"]) == (status, code, param)
            assert sink.error["source"] == "engine"
            if "n_prompt_tokens" in said[1]["error"]:
                assert sink.error["n_prompt_tokens"] == 9031


async def test_too_long_an_input_is_no_fault_of_the_server(server: LlamaCpp) -> None:
    server.documents["/v1/embeddings"] = fault(
        500, "input (3002 tokens) is too large to process.", "server_error"
    )
    async with opened(LlamaCppEngine(config("llamacpp", server.url))) as engine:
        sink = await ask(engine, job("own", "/v1/embeddings"), {"input": "x"})
    assert (sink.status, sink.error["code"], sink.error["param"]) == (
        400,
        "context_length_exceeded",
        "input",
    )


@pytest.mark.parametrize(
    ("said", "away"),
    [
        (fault(500, "std::bad_alloc", "server_error"), False),
        (fault(503, "Loading model", "unavailable_error"), True),
        (fault(401, "Invalid API Key", "authentication_error"), True),
        (fault(429, "busy"), False),
    ],
)
async def test_other_faults_are_the_engines(
    server: LlamaCpp, engine: LlamaCppEngine, said: tuple[int, Any], away: bool
) -> None:
    server.documents[CHAT] = said
    with pytest.raises(EngineFault) as caught:
        await ask(engine, job("own"), chat("hi"))
    assert (caught.value.retryable, caught.value.away) == (True, away)

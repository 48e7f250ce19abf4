"""The road that all endpoints of texts share, on an ingress in this process with an echo engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from schemas.nodes import Ignored, ServedModel
from schemas.settings import Route
from tests.unit.ingress.loopback import HEADERS, LoopbackIngress, loopback_ingress

CHAT = "/v1/chat/completions"
LENIENTLY = {"x_headrace_lenient": "true"}
PATHS = [
    "/chat/completions",
    "/chat/completions/input_tokens",
    "/completions",
    "/embeddings",
    "/responses",
    "/responses/input_tokens",
    "/messages",
    "/messages/count_tokens",
    "/rerank",
]


@pytest.fixture
async def ingress() -> AsyncIterator[LoopbackIngress]:
    async with loopback_ingress() as made:
        yield made


def chat(text: str = "one two", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


def body_for(path: str) -> dict[str, Any]:
    """The least that each endpoint takes."""
    match path.removeprefix("/v1"):
        case "/completions":
            return {"model": "echo", "prompt": "one two"}
        case "/embeddings":
            return {"model": "echo", "input": "one two"}
        case "/responses" | "/responses/input_tokens":
            return {"model": "echo", "input": "one two"}
        case "/rerank":
            return {"model": "echo", "query": "one", "documents": ["two", "one"]}
        case "/messages":
            return chat(max_tokens=5)
    return chat()


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("path", PATHS)
async def test_each_endpoint_answers_with_and_without_the_version(
    ingress: LoopbackIngress, path: str, prefix: str
) -> None:
    answer = await ingress.post(prefix + path, body_for(path))
    assert answer.status == 200
    assert answer.headers["x-request-id"]
    assert ingress.line.jobs[-1].endpoint == "/v1" + path
    assert not ingress.line.jobs[-1].lenient


@pytest.mark.parametrize("path", PATHS)
async def test_each_endpoint_wants_a_key_and_names_what_is_missing(
    ingress: LoopbackIngress, path: str
) -> None:
    refused = await ingress.call("POST", "/v1" + path, b"{}", {"content-type": "application/json"})
    assert refused.status == 401
    empty = await ingress.post("/v1" + path, {"model": "echo"})
    assert empty.status == 400
    assert empty.json["error"]["param"] in ("messages", "prompt", "input", "query")
    assert not ingress.line.jobs


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_names_the_model_as_the_client_did(path: str, stream: bool) -> None:
    async with loopback_ingress(routes=(Route(name="gpt-4o-mini", model="echo"),)) as ingress:
        asked = {**body_for(path), "model": "gpt-4o-mini", "stream": stream}
        answer = await ingress.post("/v1" + path, asked)
    assert answer.status == 200
    assert b'"model":"echo"' not in answer.body
    assert b'"model":"gpt-4o-mini"' in answer.body or path.endswith("_tokens")
    assert ingress.line.jobs[-1].asked == "gpt-4o-mini"
    assert ingress.line.jobs[-1].model == "echo"


ROUTES = (Route(name="*", model="echo"), Route(name="Chat", model="echo"))


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
async def test_a_name_that_was_spelt_otherwise_or_made_up_is_the_answers_too(path: str) -> None:
    async with loopback_ingress(routes=ROUTES) as ingress:
        for name, route in (("ECHO", ""), ("openai/chat.gguf", "Chat"), ("gpt-99", "*")):
            answer = await ingress.post(f"/v1{path}", {**body_for(path), "model": name})
            assert (answer.status, answer.json["model"]) == (200, name), answer.body
            job = ingress.line.jobs[-1]
            assert (job.model, job.asked, job.route) == ("echo", name, route)
        page = (await ingress.call("GET", "/v1/models", b"", HEADERS)).json
        assert [entry["id"] for entry in page["data"]] == ["Chat", "echo"]


@pytest.mark.parametrize(
    ("raw", "word", "param"),
    [
        (b'{"model":"echo","model":"other"}', "duplicate", "model"),
        (b'{"a":[{"b":1},{"c":{"x":1,"y":2,"x":3}}]}', "duplicate", "a[1].c.x"),
        (b'{"a":1,"b":' + b"[" * 300 + b"]" * 300 + b"}", "nested", "b" + 7 * "[0]"),
        (b'{"b":[1,' + b"[" * 2000, "depth", "b[1]" + 6 * "[0]"),
        (b'{"temperature":NaN}', "JSON", "temperature"),
        (b'{"a":{"b":["x","\xff"]}}', "JSON", "a.b[1]"),
        (b'{"a":"x","b\\"":"\\ud83d"}', "JSON", 'b\\"'),
        (b'{"a":"' + b"x" * 200_000 + b'","b":NaN}', "JSON", None),
        (b"[" * 300 + b"]" * 300, "nested", "[0]" * 8),
        (b"\xff", "JSON", None),
        (b"", "JSON", None),
    ],
)
async def test_what_two_parsers_may_read_differently_is_refused(
    ingress: LoopbackIngress, raw: bytes, word: str, param: str | None
) -> None:
    answer = await ingress.post(CHAT, raw)
    assert answer.error == (400, "invalid_request", param)
    assert word in answer.json["error"]["message"]


async def test_an_endpoint_that_no_engine_of_the_model_has_is_named(
    ingress: LoopbackIngress,
) -> None:
    ingress.serve(ServedModel("echo", "e", "llamacpp", 4, features=("chat", "completions")))
    answer = await ingress.post("/v1/embeddings", body_for("/embeddings"))
    assert answer.error == (400, "unsupported_endpoint", "model")
    assert "it has /v1/chat/completions, /v1/completions" in answer.json["error"]["message"]


async def test_a_field_without_effect_is_refused_or_warned_of(ingress: LoopbackIngress) -> None:
    ignored = (Ignored("tools", "no tools", ("chat",)), Ignored("suffix", "no", ("completions",)))
    ingress.serve(ServedModel("echo", "e", "llamacpp", 4, features=("chat",), ignores=ignored))
    tools = [{"type": "function", "function": {"name": "f"}}]
    strict = await ingress.post(CHAT, chat(tools=tools))
    lenient = await ingress.post(CHAT, chat(tools=tools, suffix="x"), **LENIENTLY)
    harmless = await ingress.post(CHAT, chat(tools=[]), **LENIENTLY)

    assert strict.error == (400, "unsupported_parameter", "tools")
    assert "no tools" in strict.json["error"]["message"]
    assert "x-headrace-warning" not in strict.headers
    assert lenient.status == harmless.status == 200
    assert lenient.headers["x-headrace-warning"] == "tools has no effect: no tools"
    assert "x-headrace-warning" not in harmless.headers
    assert [job.lenient for job in ingress.line.jobs] == [True, False]


async def test_a_field_that_nobody_is_known_to_have_is_told_of(ingress: LoopbackIngress) -> None:
    ignored = (Ignored("tools", "no tools", ("chat",)),)
    served = ServedModel("echo", "e", "vllm", 4, features=("chat",), ignores=ignored)
    ingress.serve(replace(served, knows=("chat min_p",)))
    strict = await ingress.post(CHAT, chat(min_p=0.1, stopp="x"))
    streamed = await ingress.post(CHAT, chat(stopp="x", stream=True))
    lenient = await ingress.post(CHAT, chat(stopp="x", tools=[{"type": "x"}]), **LENIENTLY)
    known = await ingress.post(CHAT, chat(min_p=0.1, tools=[]))

    told = "'stopp' is known neither to OpenAI's API nor to vLLM; did you mean 'stop'?"
    assert strict.headers["x-headrace-warning"] == told
    assert streamed.headers["x-headrace-warning"] == told
    assert lenient.headers["x-headrace-warning"] == f"tools has no effect: no tools; {told}"
    assert "x-headrace-warning" not in known.headers
    assert orjson.loads(ingress.line.jobs[0].body)["stopp"] == "x", "the engine may know it"


async def test_a_field_that_may_be_heeded_is_left_to_the_worker(ingress: LoopbackIngress) -> None:
    ignored = (Ignored("tool_choice", "perhaps", ("chat",), ("auto",), tried=True),)
    ingress.serve(ServedModel("echo", "e", "llamacpp", 4, features=("chat",), ignores=ignored))
    tools = [{"type": "function", "function": {"name": "f"}}]
    tried = await ingress.post(CHAT, chat(tools=tools, tool_choice="required"))
    lenient = await ingress.post(CHAT, chat(tools=tools, tool_choice="required"), **LENIENTLY)

    assert tried.status == lenient.status == 200
    assert "x-headrace-warning" not in tried.headers
    assert lenient.headers["x-headrace-warning"] == "tool_choice has no effect: perhaps"
    assert [job.lenient for job in ingress.line.jobs] == [False, True]


@pytest.mark.parametrize(
    ("path", "tool", "param"),
    [
        (CHAT, {"type": "custom", "custom": {"name": "x"}}, "tools[0].type"),
        ("/v1/responses", {"type": "web_search"}, "tools[0].type"),
        ("/v1/messages", {"type": "web_search_20250305", "name": "web_search"}, "tools[0].type"),
    ],
)
async def test_tools_that_a_server_would_have_to_run_are_refused(
    ingress: LoopbackIngress, path: str, tool: dict[str, Any], param: str
) -> None:
    answer = await ingress.post(path, {**body_for(path), "tools": [tool]})
    assert answer.error[0] == 400
    assert answer.json["error"]["param"] == param


async def test_unknown_fields_reach_the_engine_untouched(ingress: LoopbackIngress) -> None:
    raw = b' {"messages":[{"role":"user","content":"hi"}] , "odd" : [1.50], "model":"echo"}'
    answer = await ingress.post(CHAT, raw)
    assert answer.status == 200
    assert ingress.line.jobs[-1].body == raw


# What an answer must be.

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def says(*texts: str) -> dict[str, Any]:
    return {"says": list(texts), "as": "one"}


async def test_an_answer_that_fits_passes(ingress: LoopbackIngress) -> None:
    answer = await ingress.post(CHAT, chat(response_format=AS_SCHEMA, echo=says('{"a":1}')))
    assert orjson.loads(answer.json["choices"][0]["message"]["content"]) == {"a": 1}
    assert len(ingress.line.jobs) == 1


@pytest.mark.parametrize("bad", ['{"a":"x"}', "{", "[]"])
async def test_an_answer_that_does_not_fit_is_asked_for_once_more(
    ingress: LoopbackIngress, bad: str
) -> None:
    second = await ingress.post(CHAT, chat(response_format=AS_SCHEMA, echo=says(bad, '{"a":2}')))
    assert second.json["choices"][0]["message"]["content"] == '{"a":2}'
    never = await ingress.post(CHAT, chat(response_format=AS_SCHEMA, echo={"says": [bad]}))
    assert never.error == (502, "invalid_structured_output", None)
    assert len(ingress.line.jobs) == 4


@pytest.mark.parametrize(
    ("wanted", "text", "jobs"),
    [
        ({"type": "json_object"}, '{"any":1}', 1),
        ({"type": "json_object"}, "[1]", 2),
        ({"type": "json_object"}, "no", 2),
        ({"type": "text"}, "no", 1),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}, "[1]", 1),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}, "{", 2),
    ],
)
async def test_json_of_any_kind(
    ingress: LoopbackIngress, wanted: Any, text: str, jobs: int
) -> None:
    answer = await ingress.post(CHAT, chat(response_format=wanted, echo={"says": [text]}))
    assert answer.status == (200 if jobs == 1 else 502)
    assert len(ingress.line.jobs) == jobs


async def test_what_was_cut_or_calls_a_tool_is_the_clients_to_judge(
    ingress: LoopbackIngress,
) -> None:
    cut = chat(response_format=AS_SCHEMA, max_tokens=1, echo={"says": ['{"a": 1}']})
    answer = await ingress.post(CHAT, cut)
    assert answer.json["choices"][0]["finish_reason"] == "length"
    tools = [{"type": "function", "function": {"name": "f"}}]
    called = chat(response_format=AS_SCHEMA, tools=tools, tool_choice="required")
    answer = await ingress.post(CHAT, called)
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"
    assert len(ingress.line.jobs) == 2


async def test_a_schema_that_is_none_is_refused_before_the_engine_is_asked(
    ingress: LoopbackIngress,
) -> None:
    for schema in ({"type": "nonsense"}, {"$ref": "http://example.org/x"}, {"pattern": "("}):
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        for stream in (False, True):
            answer = await ingress.post(CHAT, chat(response_format=wanted, stream=stream))
            where = "response_format.json_schema.schema"
            assert answer.error == (400, "invalid_request", where)
    assert not ingress.line.jobs


async def test_the_responses_endpoint_holds_answers_to_a_schema_too(
    ingress: LoopbackIngress,
) -> None:
    form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    body = {"model": "echo", "input": "hi", "text": form}
    answer = await ingress.post("/v1/responses", {**body, "echo": says("{}", '{"a":3}')})
    assert answer.json["output"][0]["content"][0]["text"] == '{"a":3}'
    never = await ingress.post("/v1/responses", {**body, "echo": {"says": ["{}"]}})
    assert never.error == (502, "invalid_structured_output", None)


SECOND = "the first answer did not fit, and this is the one to a request that says so"


async def test_the_second_request_says_what_was_wrong_and_the_client_is_told(
    ingress: LoopbackIngress,
) -> None:
    body = chat(response_format=AS_SCHEMA, seed=7, echo=says("no", '{"a":2}'))
    second = await ingress.post(CHAT, body)
    first, again = (orjson.loads(job.body) for job in ingress.line.jobs)
    assert again["messages"][:-2] == first["messages"]
    assert [each["role"] for each in again["messages"][-2:]] == ["assistant", "user"]
    assert "not JSON" in again["messages"][-1]["content"]
    assert {**again, "messages": 0} == {**first, "messages": 0}
    assert second.headers["x-headrace-warning"] == SECOND
    ingress.serve(ServedModel("echo", "e", "echo", 4, ignores=(Ignored("odd", "it is odd"),)))
    body = chat(response_format=AS_SCHEMA, odd=1, echo={**says("no", '{"a":2}'), "as": "two"})
    lenient = await ingress.post(CHAT, body, **LENIENTLY)
    told = f"{SECOND}; odd has no effect: it is odd"
    assert lenient.headers["x-headrace-warning"] == told


async def test_the_usage_is_that_of_the_request_whose_answer_is_given(
    ingress: LoopbackIngress,
) -> None:
    body = chat(response_format=AS_SCHEMA, echo=says("no no no", '{"a":2}'))
    second = await ingress.post(CHAT, body)
    again = await ingress.post(CHAT, ingress.line.jobs[1].body)
    assert second.json["usage"] == again.json["usage"]


FUNCTION: dict[str, Any] = {"name": "f", "strict": True, "parameters": SCHEMA}
STRICT = {"type": "function", "function": FUNCTION}


def calls(*arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": "f", "arguments": each} for each in arguments]}


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_of_strict_tools_are_held_to_their_schema(
    ingress: LoopbackIngress, stream: bool
) -> None:
    body = chat(tools=[STRICT], tool_choice="required", stream=stream)
    fits = await ingress.post(CHAT, {**body, "echo": calls({"a": 1})})
    assert fits.status == 200
    assert len(ingress.line.jobs) == 1
    never = await ingress.post(CHAT, {**body, "echo": calls({"a": "x"})})
    if stream:
        assert never.events[-1]["error"]["code"] == "invalid_structured_output"
        return
    assert never.error == (502, "invalid_structured_output", None)
    again = orjson.loads(ingress.line.jobs[2].body)["messages"]
    assert [each["role"] for each in again[-2:]] == ["assistant", "tool"]
    assert "the arguments of 'f'" in again[-1]["content"]


async def test_a_strict_tools_schema_that_is_none_is_refused(ingress: LoopbackIngress) -> None:
    bad = {**STRICT, "function": {**FUNCTION, "parameters": {"pattern": "("}}}
    answer = await ingress.post(CHAT, chat(tools=[STRICT, bad]))
    assert answer.error == (400, "invalid_request", "tools[1].function.parameters")
    assert not ingress.line.jobs


MESSAGES = "/v1/messages"


def message(**more: Any) -> dict[str, Any]:
    """The echo engine would say the same over and over: it ends where it begins again."""
    hi = {"role": "user", "content": "hi"}
    asked = {"model": "echo", "max_tokens": 99, "messages": [hi], "stop_sequences": [" {", " no"]}
    return {**asked, **more}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message_is_held_to_its_format(ingress: LoopbackIngress, stream: bool) -> None:
    form = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    body = message(**form, stream=stream)
    fits = await ingress.post(MESSAGES, {**body, "echo": says('{"a":1}')})
    assert fits.status == 200
    never = await ingress.post(MESSAGES, {**body, "echo": {"says": ["no"]}})
    if stream:
        assert fits.events[-1]["type"] == "message_stop"
        assert never.events[-1]["error"]["code"] == "invalid_structured_output"
        return
    assert fits.json["content"] == [{"type": "text", "text": '{"a":1}'}]
    assert (never.status, never.json["error"]["code"]) == (502, "invalid_structured_output")
    again = orjson.loads(ingress.line.jobs[-1].body)["messages"]
    assert [each["role"] for each in again] == ["user", "assistant", "user"]
    second = await ingress.post(MESSAGES, {**body, "echo": {**says("no", '{"a":2}'), "as": "2"}})
    assert second.json["content"][0]["text"] == '{"a":2}'


async def test_a_messages_schema_that_is_none_is_refused(ingress: LoopbackIngress) -> None:
    for wanted, param in (
        ({"type": "json_schema", "schema": {"pattern": "("}}, "output_config.format.schema"),
        ({"type": "json_schema"}, "output_config.format.schema"),
        ({"type": "text"}, "output_config.format.type"),
        (5, "output_config.format"),
    ):
        answer = await ingress.post(MESSAGES, message(output_config={"format": wanted}))
        assert (answer.status, answer.json["error"]["param"]) == (400, param)


async def test_there_is_a_second_try_at_temperature_0(ingress: LoopbackIngress) -> None:
    body = chat(response_format=AS_SCHEMA, temperature=0, echo=says("no", '{"a":2}'))
    second = await ingress.post(CHAT, body)
    assert second.json["choices"][0]["message"]["content"] == '{"a":2}'
    assert len(ingress.line.jobs) == 2


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_a_stream_that_does_not_fit_ends_with_an_error(
    ingress: LoopbackIngress, n: int
) -> None:
    """A single job with one choice and with two, and five jobs."""
    body = chat(response_format=AS_SCHEMA, stream=True, n=n, echo={"says": ["no pe"]})
    answer = await ingress.post(CHAT, body)
    *before, last = answer.events
    assert last["error"]["code"] == "invalid_structured_output"
    ended = [choice["finish_reason"] for each in before for choice in each["choices"]]
    assert set(ended) == {None}, "nobody said that it was whole"
    assert "no" in str(before), "what came is with the client"
    assert not ingress.line.tickets


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_a_stream_that_fits_passes_as_it_is(ingress: LoopbackIngress, n: int) -> None:
    body = chat(stream=True, n=n, stream_options={"include_usage": True})
    fits = {"says": ['{"a": 1}']}
    held = await ingress.post(CHAT, {**body, "response_format": AS_SCHEMA, "echo": fits})
    plain = await ingress.post(CHAT, {**body, "echo": fits})
    assert held.events[-1] == "[DONE]"
    assert [each.keys() for each in held.events[:-1]] == [each.keys() for each in plain.events[:-1]]
    assert held.events[-2]["usage"] == plain.events[-2]["usage"]


async def test_a_stream_of_responses_is_held_to_its_schema_too(ingress: LoopbackIngress) -> None:
    form = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    body = {"model": "echo", "input": "hi", "text": form, "stream": True}
    never = await ingress.post("/v1/responses", {**body, "echo": {"says": ["nope"]}})
    kinds = [each["type"] for each in never.events]
    assert kinds[-1] == "error"
    assert "response.completed" not in kinds
    assert never.events[-1]["code"] == "invalid_structured_output"
    fits = await ingress.post("/v1/responses", {**body, "echo": {"says": ['{"a":1}']}})
    assert fits.events[-1]["type"] == "response.completed"


# Several choices.


async def test_engines_that_can_give_several_choices_get_one_job(ingress: LoopbackIngress) -> None:
    answer = await ingress.post(CHAT, chat(n=3))
    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1, 2]
    assert len(ingress.line.jobs) == 1
    assert (await ingress.post(CHAT, chat(n=5))).status == 200
    assert len(ingress.line.jobs) == 6, "more choices than slots"


async def test_choices_of_an_engine_that_gives_one_are_fanned_out_and_merged() -> None:
    async with loopback_ingress("echo://?n=0") as ingress:
        body = chat(n=3, seed=7, echo=says("a", "b b", "c c c"))
        answer = await ingress.post(CHAT, body)
        asked = [orjson.loads(job.body) for job in ingress.line.jobs]
    choices = answer.json["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert sorted(choice["message"]["content"] for choice in choices) == ["a", "b b", "c c c"]
    assert answer.json["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 6,
        "total_tokens": 8,
    }
    assert [(each["n"], each["seed"]) for each in asked] == [(1, 7), (1, 8), (1, 9)]


async def test_streamed_choices_are_interleaved_with_their_own_indexes() -> None:
    async with loopback_ingress("echo://?n=0") as ingress:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        paced = {"echo": {"token_ms": 1}}
        answer = await ingress.post(CHAT, chat("one two three", n=2, **options, **paced))
    events = answer.events
    assert events[-1] == "[DONE]"
    assert events.count("[DONE]") == 1
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] == 6
    assert len({event["id"] for event in events[:-1]}) == 1
    for index in (0, 1):
        own = [e["choices"][0] for e in events[:-2] if e["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content") or "" for c in own) == "one two three"
        assert own[-1]["finish_reason"] == "stop"
    order = [event["choices"][0]["index"] for event in events[:-2]]
    assert order != sorted(order), "interleaved"


async def test_choices_for_several_prompts_stay_with_their_prompt() -> None:
    async with loopback_ingress("echo://?n=0") as ingress:
        answer = await ingress.post("/v1/completions", {"model": "echo", "prompt": "a", "n": 2})
    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1]
    assert answer.json["object"] == "text_completion"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_choice_that_is_refused_refuses_the_request(stream: bool) -> None:
    async with loopback_ingress("echo://?n=0") as ingress:
        answer = await ingress.post(CHAT, chat(n=2, stream=stream, echo={"fault": "400"}))
    assert answer.error[:2] == (400, "as_asked")


async def test_a_choice_that_fails_fails_the_request() -> None:
    async with loopback_ingress("echo://?n=0") as ingress:
        whole = await ingress.post(CHAT, chat(n=2, echo={"fault": "cut", "at": 1}))
        late = {"fault": "cut", "at": 3, "token_ms": 2}
        streamed = await ingress.post(CHAT, chat("a b c d", n=2, stream=True, echo=late))
    assert whole.error[:2] == (502, "engine_failed")
    assert streamed.events[-1]["error"]["code"] == "stream_interrupted"
    assert "[DONE]" not in streamed.events


@pytest.mark.parametrize(
    ("path", "own", "param"),
    [
        ("/v1/completions", {"prompt": {"prompt_string": "a"}}, "prompt"),
        ("/v1/completions", {"prompt": ["a", [1, "b"]]}, "prompt[1]"),
        ("/v1/embeddings", {"input": [1, "a"]}, "input"),
        ("/v1/embeddings", {"content": "a"}, "content"),
    ],
)
async def test_prompts_in_forms_of_another_engine_are_refused(
    ingress: LoopbackIngress, path: str, own: dict[str, Any], param: str
) -> None:
    answer = await ingress.post(path, {"model": "echo", **own})
    assert answer.error == (400, "invalid_request", param)
    assert answer.json["error"]["message"].endswith("this model is served by: echo.")

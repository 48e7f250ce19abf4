from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api import endpoints, plain
from schemas.api.shape import Shape, parse
from schemas.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, tuple[Shape, dict[str, Any]]] = {
    "chat": (endpoints.CHAT.shape, {"messages": [USER]}),
    "completions": (endpoints.COMPLETIONS.shape, {"prompt": "hi"}),
    "embeddings": (endpoints.EMBEDDINGS.shape, {"input": "hi"}),
    "responses": (endpoints.RESPONSES.shape, {"input": "hi"}),
    "messages": (endpoints.MESSAGES.shape, {"model": "m", "messages": [USER], "max_tokens": 9}),
    "count": (endpoints.COUNT_TOKENS.shape, {"model": "m", "messages": [USER]}),
    "rerank": (endpoints.RERANK.shape, {"query": "hi", "documents": ["a"]}),
    "moderations": (endpoints.MODERATIONS.shape, {"input": "hi"}),
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {}}
ANTHROPIC_TOOL = {"name": "f", "input_schema": {"type": "object"}}


def read(kind: str, change: dict[str, Any]) -> dict[str, Any]:
    shape, good = GOOD[kind]
    return shape.read(json.dumps({**good, **change}).encode())[0]


def refused(kind: str, change: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(kind, change)
    return caught.value


def called(**changes: Any) -> dict[str, Any]:
    """A chat whose history has a call."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, **changes}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


CHAT_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "asistant", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "Users", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "a role", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "robot"}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0].input_audio",
    ),
    ({"messages": ["hi"]}, "messages[0]"),
    (called(id=5), "messages[0].tool_calls[0].id"),
    (called(type=5), "messages[0].tool_calls[0].type"),
    (called(function=None), "messages[0].tool_calls[0].function"),
    (called(function={"arguments": "{}"}), "messages[0].tool_calls[0].function.name"),
    (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": 5}]},
        "messages[0].tool_call_id",
    ),
    ({"messages": [{**USER, "name": 5}]}, "messages[0].name"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": 129.0}, "n"),
    (
        {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]},
        "messages[0].content[0].type",
    ),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 0, "max_completion_tokens": 100}, "max_tokens"),
    ({"max_tokens": "2", "max_completion_tokens": 100}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"seed": "x"}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": 1}, "stop"),
    ({"logit_bias": {"50256": 101}}, "logit_bias"),
    ({"logit_bias": {"50256": "x"}}, "logit_bias"),
    ({"logit_bias": "x"}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"tools": [1]}, "tools[0]"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}]},
        "tools[0].function.parameters.type",
    ),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "always", "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": {"type": "function"}, "tools": [TOOL]}, "tool_choice.function"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
        "tool_choice.function.name",
    ),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "schema": "x"}},
        "response_format.json_schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
    ),
    ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
    ({"model": 7}, "model"),
    ({"model": "m" * 2000}, "model"),
]
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    *(("chat", change, param) for change, param in CHAT_FAULTS),
    ("completions", {"prompt": []}, "prompt"),
    ("completions", {"prompt": None}, "prompt"),
    ("completions", {"prompt": [1, ["a"]]}, "prompt"),
    ("completions", {"prompt": [["a"]]}, "prompt[0]"),
    ("completions", {"prompt": ["a", [1, {"prompt_string": "b"}]]}, "prompt[1]"),
    ("completions", {"prompt": {}}, "prompt.prompt_string"),
    ("completions", {"prompt": ["a", {"prompt_string": 5}]}, "prompt[1].prompt_string"),
    ("completions", {"prompt": {"prompt_string": [1.5]}}, "prompt.prompt_string"),
    ("completions", {"prompt": {"prompt_string": {"prompt_string": "a"}}}, "prompt.prompt_string"),
    (
        "completions",
        {"prompt": {"prompt_string": "a", "multimodal_data": ["a", 5]}},
        "prompt.multimodal_data",
    ),
    (
        "completions",
        {"prompt": {"prompt_string": [1, "a"], "multimodal_data": []}},
        "prompt.prompt_string",
    ),
    ("completions", {"prompt": [[]]}, "prompt[0]"),
    ("completions", {"prompt": [[1, -1]]}, "prompt[0]"),
    ("completions", {"prompt": [-1]}, "prompt"),
    ("completions", {"prompt": [True]}, "prompt[0]"),
    ("completions", {"n": 2, "best_of": 1}, "best_of"),
    ("completions", {"logprobs": "yes"}, "logprobs"),
    ("completions", {"prompt": [2**40]}, "prompt"),
    ("completions", {"prompt": [[1], [1, 2**31]]}, "prompt[1]"),
    ("embeddings", {"input": [2**63]}, "input"),
    ("embeddings", {"input": []}, "input"),
    ("embeddings", {"input": 5}, "input"),
    ("embeddings", {"input": ["a", None]}, "input[1]"),
    ("embeddings", {"input": None}, "input"),
    ("embeddings", {"input": "a", "content": "a"}, "content"),
    ("embeddings", {"input": None, "content": []}, "content"),
    ("embeddings", {"input": ["a"] * 2049}, "input"),
    ("embeddings", {"encoding_format": "hex"}, "encoding_format"),
    ("embeddings", {"dimensions": 0}, "dimensions"),
    ("responses", {"input": []}, "input"),
    ("responses", {"input": [{}]}, "input[0].type"),
    ("responses", {"input": [{"type": 5}]}, "input[0].type"),
    ("responses", {"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ("responses", {"input": [{"role": "user"}]}, "input[0].content"),
    (
        "responses",
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input[0].content[0].text",
    ),
    ("responses", {"input": [{"type": "function_call", "arguments": "{}"}]}, "input[0].name"),
    ("responses", {"input": [{"type": "function_call_output", "output": 5}]}, "input[0].output"),
    ("responses", {"max_output_tokens": 0}, "max_output_tokens"),
    ("responses", {"tools": [{"type": "function"}]}, "tools[0].name"),
    (
        "responses",
        {"tools": [FLAT_TOOL], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice.name",
    ),
    ("responses", {"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ("responses", {"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ("messages", {"max_tokens": None}, "max_tokens"),
    ("messages", {"max_tokens": 0}, "max_tokens"),
    ("messages", {"model": None}, "model"),
    ("messages", {"messages": []}, "messages"),
    ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ("messages", {"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
        "messages[0].content[0].tool_use_id",
    ),
    ("messages", {"system": [{}]}, "system[0].type"),
    ("messages", {"tools": [{}]}, "tools[0].name"),
    ("messages", {"tools": [{"name": "f", "input_schema": 1}]}, "tools[0].input_schema"),
    (
        "messages",
        {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"type": "text"}}}}]},
        "tools[0].input_schema.properties.a.type",
    ),
    (
        "messages",
        {"tools": [{"name": "f", "input_schema": {"type": []}}]},
        "tools[0].input_schema.type",
    ),
    (
        "responses",
        {"tools": [{**FLAT_TOOL, "parameters": {"type": "nonsense"}}]},
        "tools[0].parameters.type",
    ),
    ("messages", {"tool_choice": {}}, "tool_choice.type"),
    ("messages", {"tool_choice": {"type": "any"}}, "tool_choice"),
    (
        "messages",
        {"tool_choice": {"type": "tool", "name": "g"}, "tools": [ANTHROPIC_TOOL]},
        "tool_choice.name",
    ),
    ("messages", {"stop_sequences": "x"}, "stop_sequences"),
    ("messages", {"stop_sequences": [""]}, "stop_sequences"),
    ("messages", {"stop_sequences": ["a", ""]}, "stop_sequences"),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1.5}}, "thinking.budget_tokens"),
    ("count", {"messages": 5}, "messages"),
    ("completions", {"prompt": ["a"] * 1025}, "prompt"),
    ("completions", {"prompt": ["a"] * 9, "n": 120}, "prompt"),
    ("responses", {"input": [{"type": "function_call", "call_id": 5}]}, "input[0].call_id"),
    ("rerank", {"documents": []}, "documents"),
    ("rerank", {"documents": ["a"] * 2049}, "documents"),
    ("rerank", {"documents": [{}]}, "documents[0].text"),
    ("rerank", {"query": 5}, "query"),
    ("rerank", {"top_n": 0}, "top_n"),
    ("rerank", {"top_n": 2**31}, "top_n"),
    ("moderations", {"input": 5}, "input"),
    ("moderations", {"input": []}, "input"),
    ("moderations", {"input": ["a", {"type": "text", "text": "b"}]}, "input"),
    ("moderations", {"input": [{"type": "text"}]}, "input[0].text"),
    ("moderations", {"input": [{"type": "image_url", "image_url": {}}]}, "input[0].image_url.url"),
]


def test_a_refusal_says_where(subtests: pytest.Subtests) -> None:
    for kind, change, param in FAULTS:
        with subtests.test(f"{kind!r:.60} {change!r:.60}"):
            error = refused(kind, change)
            assert error.param == param
            assert repr(param) in error.message
            assert error.status == 400


PASSING: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"messages": [{"role": "tool", "content": "5", "tool_call_id": "x"}]}),
    ("chat", called()),
    ("chat", {"messages": [{"role": "tool", "content": "5"}]}),
    ("chat", called(type="custom", custom={"name": "f", "input": "x"})),
    ("chat", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ("chat", {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}),
    ("chat", {"response_format": {"type": "json_object", "schema": {}}}),
    ("chat", {"logit_bias": {"5": -100, "6": False}, "logprobs": True, "top_logprobs": 5}),
    ("chat", {"logit_bias": [[5, 1.5]], "stop": ["a", "b", "c", "d", "e"], "max_tokens": -1}),
    ("chat", {"new_field": {"a": [1, None]}, "temperature": 0, "seed": -1}),
    ("chat", {"stream_options": {"include_usage": True, "odd": 1}}),
    ("chat", {"max_tokens": 5, "max_completion_tokens": 5}),
    ("chat", {"messages": [{"role": "control", "content": "thinking"}, USER]}),
    ("chat", {"messages": [{"role": "my-custom-role", "content": "x"}, USER]}),
    ("completions", {"prompt": ["a", "b"], "max_tokens": 0}),
    ("completions", {"prompt": [1, 2]}),
    ("completions", {"prompt": [[1], [2]]}),
    ("completions", {"prompt": ["a"] * 8, "n": 128}),
    ("completions", {"prompt": [1, "a", 2]}),
    ("completions", {"prompt": ["a", [1, 2], [1, "a"], {"prompt_string": "a"}]}),
    ("completions", {"prompt": {"prompt_string": [1, "a"]}}),
    ("completions", {"prompt": {"prompt_string": "a", "multimodal_data": ["AAAA"]}}),
    ("embeddings", {"input": ["a", [1, "b"], {"prompt_string": "c"}]}),
    ("embeddings", {"input": "", "encoding_format": "base64", "dimensions": 5}),
    ("embeddings", {"input": ["a"] * 2048}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": ""}]}]}),
    ("responses", {"input": [{"type": "function_call_output", "call_id": "x", "output": "5"}]}),
    (
        "responses",
        {"tools": [FLAT_TOOL], "tool_choice": "required", "text": {"format": {"type": "text"}}},
    ),
    ("responses", {"max_tool_calls": 0}),
    ("messages", {"system": "x", "tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}}),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("messages", {"stop_sequences": ["\n", "END"]}),
    ("rerank", {"documents": ["a", {"text": "b"}], "top_n": 1}),
    ("moderations", {"input": ["a", ""]}),
    ("moderations", {"input": [{"type": "text", "text": "a"}]}),
]


def test_what_is_right_passes_and_stays_as_it_is(subtests: pytest.Subtests) -> None:
    for kind, change in PASSING:
        with subtests.test(f"{kind!r:.60} {change!r:.60}"):
            assert read(kind, change) == {**GOOD[kind][1], **change}


def test_a_missing_parameter_is_called_missing() -> None:
    with pytest.raises(InvalidRequest) as caught:
        endpoints.CHAT.shape.read(b'{"model":"m"}')
    error = caught.value
    assert (error.param, error.message) == ("messages", "Missing required parameter: 'messages'.")


def test_of_a_union_the_member_that_was_meant_is_named() -> None:
    error = refused("chat", {"messages": [{"role": "user", "content": 5}]})
    assert "string, or: Input should be a valid list" in error.message


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"null", b"true"])
def test_what_is_no_object_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        endpoints.CHAT.shape.read(body)
    assert caught.value.param == "body"


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function"])
def test_every_role_of_openai_is_known(role: str) -> None:
    more = {"tool_call_id": "c"} if role == "tool" else {}
    assert read("chat", {"messages": [{"role": role, "content": "x", **more}]})


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_json_is_taken_or_refused_with_a_place(kind: str, data: st.DataObject) -> None:
    shape, good = GOOD[kind]
    name = data.draw(st.sampled_from([*sorted(shape.names), ""]))
    value = data.draw(JSON)
    body = json.dumps({**good, name: value} if name else value).encode()
    fault = None
    try:
        found, _ = shape.read(body)
    except InvalidRequest as error:
        fault = error
    assert isinstance(found, dict) if fault is None else fault.param


# JSON that two parsers would read differently.


@given(JSON)
def test_all_that_json_can_write_is_parsed(value: Any) -> None:
    body = json.dumps(value).encode()
    assert parse(body) == orjson.loads(body)


KEYS = st.text(max_size=3) | st.sampled_from(['"', '\\"', "a", "\\u0022", "\\"])


def written(pairs: list[tuple[str, Any]], ascii_only: bool, escape: bool) -> bytes:
    inner = ",".join(
        f"{json.dumps(k, ensure_ascii=ascii_only)}: {json.dumps(v, ensure_ascii=ascii_only)}"
        for k, v in pairs
    )
    text = "{" + inner + "}"
    return (text.replace('\\"', "\\u0022") if escape else text).encode("utf-8", "replace")


@given(st.lists(st.tuples(KEYS, st.text(max_size=3) | KEYS), max_size=5), st.booleans())
def test_a_duplicate_key_is_always_found(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    body = written(pairs, ascii_only, escape=False)
    keys = [key for key, _ in json.loads(body, object_pairs_hook=list)]
    if len(set(keys)) == len(keys):
        assert parse(body) == json.loads(body)
    else:
        with pytest.raises(InvalidRequest, match="duplicate keys"):
            parse(body)


@pytest.mark.parametrize(
    ("body", "fine"),
    [
        (rb'{"a":"\u0022","b":"\\u0022\u0022"}', True),
        (rb'{"a":1,"a":"\u0022\u0022"}', False),
        (rb'{"\u0061":1,"a":2}', False),
        (rb'{"a":{"b":1,"b":1}}', False),
        (rb'[{"a":"\\\""},{"a":"\\"}]', True),
    ],
)
def test_escaped_quotes_hide_nothing(body: bytes, fine: bool) -> None:
    if fine:
        assert parse(body) == json.loads(body)
    else:
        with pytest.raises(InvalidRequest):
            parse(body)


@pytest.mark.parametrize("body", [b"NaN", b"-Infinity", b'{"a":1e999}', b'"\xff"', b'"\\ud800"'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        parse(body)


@pytest.mark.parametrize("depth", [300, 5000])
def test_depth_has_an_end(depth: int) -> None:
    with pytest.raises(InvalidRequest):
        parse(b"[" * depth + b"]" * depth)


SOME: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -1, 2, 0.5, 2.5, 2**31, True, None, "", "hi", [], ["x"], {}, [TOOL]]
)
ROLES = st.sampled_from(["system", "user", "assistant", "developer", "tool", "function", "robot"])
WORDS = st.one_of(st.text(max_size=3), SOME, st.just([{"type": "text", "text": "hi"}]))
SPOKEN = st.fixed_dictionaries(
    {"role": ROLES, "content": WORDS}, optional={"name": WORDS, "tool_calls": SOME}
)
FIELDS = sorted(endpoints.CHAT.shape.names - {"messages"})
CHATS = st.builds(
    lambda messages, more: {"messages": messages, **more},
    st.lists(SPOKEN, max_size=3),
    st.dictionaries(st.sampled_from([*FIELDS, "odd"]), SOME, max_size=4),
)


@given(CHATS)
def test_what_is_usual_would_pass_all_checks_as_it_is(chat: dict[str, Any]) -> None:
    shape = endpoints.CHAT.shape
    if shape.is_usual(chat):
        again = orjson.loads(orjson.dumps(chat))
        assert not plain.without_nulls(again, shape.names)
        assert not shape.check(again)
        assert again == chat
        assert shape.is_text(chat)


def test_a_completion_may_ask_for_log_probabilities_as_a_chat_does() -> None:
    request, body = endpoints.COMPLETIONS.shape.read(b'{"prompt":"a","logprobs":true}')
    assert request == orjson.loads(body) == {"prompt": "a", "logprobs": 1}


def test_usual_chats_are_known() -> None:
    shape, said = endpoints.CHAT.shape, [{"role": "system", "content": "Be brief."}, USER]
    usual = {"model": "m", "messages": said, "stream": True, "max_tokens": 9, "temperature": 1}
    assert shape.is_usual(usual)
    assert shape.read(orjson.dumps(usual)) == (usual, orjson.dumps(usual))
    others: list[dict[str, Any]] = [{"tools": []}, {"max_tokens": 0}, {"stream": None}, {"n": 2}]
    for other in others:
        assert not shape.is_usual({**usual, **other})
    for word in ({**USER, "content": None}, {**USER, "name": "x"}, {"role": "user"}):
        assert not shape.is_usual({"messages": [word]})
    assert not shape.is_usual([usual])
    assert not endpoints.COMPLETIONS.shape.is_usual({"prompt": "hi"}), "it has none"

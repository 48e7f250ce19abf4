"""What an Ollama request is put as: everything is mapped or named."""

from __future__ import annotations

from typing import Any

import pytest
from ollama import Options

from schemas.api.chat.request import REQUEST as CHAT
from schemas.api.completions import REQUEST as COMPLETIONS
from schemas.api.embeddings import REQUEST as EMBEDDINGS
from schemas.api.ollama import memory, options, request
from schemas.api.shape import Shape
from schemas.errors import HeadraceError

USER = {"role": "user", "content": "hi"}
PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def checked(shape: Shape, asked: dict[str, Any]) -> dict[str, Any]:
    """A request that is plain already."""
    assert not shape.check(asked)
    return asked


def chat(**fields: Any) -> dict[str, Any]:
    """Checked before and after."""
    asked = checked(request.CHAT_SHAPE, {"model": "m", "messages": [USER], **fields})
    return checked(CHAT, request.chat(asked).request)


def generate(chats: bool = True, **fields: Any) -> request.Put:
    asked = checked(request.GENERATE_SHAPE, {"model": "m", "prompt": "hi", **fields})
    put = request.generate(asked, chats)
    put.endpoint.shape.check(put.request)
    return put


def refused(shape: Shape, **fields: Any) -> str | None:
    with pytest.raises(HeadraceError) as caught:
        shape.check({"model": "m", **fields})
    assert 400 <= caught.value.status < 500
    return caught.value.param


@pytest.mark.parametrize("name", [*Options.model_fields, "draft_num_predict", "made_up"])
def test_an_option_is_mapped_or_named(name: str) -> None:
    value: Any = ["x"] if name == "stop" else 1
    found, unused = options.put({name: value})
    if name in options.NAMES:
        assert (found, unused) == ({options.NAMES[name]: value}, [])
    else:
        assert not found
        assert unused[0].startswith(f"options.{name} has no effect: ")


@pytest.mark.parametrize(
    "asked", [{"num_predict": -1}, {"num_predict": -2}, {"num_predict": 0}, {"seed": -1}]
)
def test_an_option_that_asks_for_the_default_asks_for_nothing(asked: dict[str, int]) -> None:
    assert options.put({**asked, "top_k": None}) == ({}, [])


def test_it_streams_unless_it_is_told_not_to() -> None:
    assert chat()["stream_options"] == {"include_usage": True}
    assert chat()["stream"] is chat(stream=None)["stream"] is True
    assert "stream" not in chat(stream=False)


@pytest.mark.parametrize(
    ("wanted", "put"),
    [
        ("json", {"type": "json_object"}),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        ("", None),
        (None, None),
    ],
)
def test_formats(wanted: Any, put: Any) -> None:
    assert chat(format=wanted).get("response_format") == put
    assert generate(format=wanted).request.get("response_format") == put


@pytest.mark.parametrize(
    ("think", "effort"),
    [(True, "medium"), (False, "none"), ("low", "low"), ("max", "high"), (None, None)],
)
def test_thinking(think: Any, effort: str | None) -> None:
    assert chat(think=think).get("reasoning_effort") == effort


def test_pictures_tools_and_log_probabilities() -> None:
    tool = {"function": {"name": "f", "parameters": {"type": "object"}}}
    found = chat(messages=[{**USER, "images": [PIXEL]}], tools=[tool], logprobs=True)
    text, picture = found["messages"][0]["content"]
    assert (text, picture["image_url"]["url"]) == ({"type": "text", "text": "hi"}, PIXEL)
    assert found["tools"] == [{"type": "function", **tool}]
    assert (found["logprobs"], found["top_logprobs"]) == (True, 0)


def test_results_answer_the_calls_before_them() -> None:
    one, other = {"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}
    calls = [{"function": one}, {"function": other}, {"id": "own", "function": one}]
    said = {"role": "Assistant", "content": "", "thinking": "hm", "tool_calls": calls}
    results = [
        {"role": "tool", "content": "1", "tool_name": "g"},
        {"role": "tool", "content": "2", "tool_call_id": "own"},
        {"role": "tool", "content": "3"},
        {"role": "tool", "content": "4", "tool_name": "f"},
    ]
    first, *rest = chat(messages=[said, *results])["messages"]
    assert (first["role"], first["content"], first["reasoning_content"]) == (
        "assistant",
        None,
        "hm",
    )
    assert [call["id"] for call in first["tool_calls"]] == ["call_1", "call_2", "own"]
    assert first["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    found = [each.get("tool_call_id") for each in rest]
    assert found == ["call_2", "own", "call_1", None]


def test_a_prompt_is_a_chat_where_there_are_chats() -> None:
    put = generate(system="short", images=[PIXEL], options={"num_predict": 3})
    system, user = put.request["messages"]
    assert (system, len(user["content"])) == ({"role": "system", "content": "short"}, 2)
    assert put.request["max_tokens"] == 3


@pytest.mark.parametrize(
    ("chats", "fields", "put"),
    [
        (True, {"raw": True}, {"prompt": "hi"}),
        (True, {"suffix": "!"}, {"prompt": "hi", "suffix": "!"}),
        (False, {"system": "short"}, {"prompt": "short\n\nhi"}),
        (False, {"logprobs": True, "top_logprobs": 2}, {"prompt": "hi", "logprobs": 2}),
    ],
)
def test_else_it_is_a_text_to_go_on_with(chats: bool, fields: Any, put: dict[str, Any]) -> None:
    found = generate(chats, stream=False, **fields)
    assert found.endpoint.shape is COMPLETIONS
    assert found.request == {"model": "m", **put}


TURNS = [("user", "hé \U0001f600"), ("assistant", ""), ("user", "x" * 9)]


def test_a_context_holds_what_was_said() -> None:
    context = memory.written(TURNS)
    assert all(0 <= each < 2**24 for each in context)
    put = generate(context=context, system="short")
    said = [(each["role"], each["content"]) for each in put.request["messages"]]
    assert said == [("system", "short"), *TURNS, ("user", "hi")]
    assert put.said == [*TURNS, ("user", "hi")]
    assert not put.unused


MARK = memory.written([])[0]


@pytest.mark.parametrize(
    ("chats", "context"),
    [
        (True, [1, 2]),
        (True, [MARK]),
        (True, [MARK, 5]),
        (True, [MARK, -1]),
        (True, [MARK, 2**70]),
        (True, memory.written([("system", "x")])),
        (True, memory.written([("user", 5)])),  # type: ignore[list-item]
        (True, [5, *memory.written(TURNS)[1:]]),
        (False, memory.written(TURNS)),
    ],
)
def test_a_context_that_does_nothing_is_named(chats: bool, context: list[int]) -> None:
    put = generate(chats, context=context)
    assert [each.split()[0] for each in put.unused] == ["context"]
    assert put.said == ([("user", "hi")] if chats else None)


def test_embeddings() -> None:
    asked = {"input": ["a", "b"], "dimensions": 4, "keep_alive": 0, "options": {"num_ctx": 1}}
    put = request.embed(
        checked(request.EMBED_SHAPE, {"model": "m", **asked, "truncate": True}), "input"
    )
    fields = {"model": "m", "input": ["a", "b"], "dimensions": 4, "keep_alive": 0}
    assert checked(EMBEDDINGS, put.request) == fields
    assert [each.split()[0] for each in put.unused] == ["options.num_ctx", "truncate"]
    older = request.embed(checked(request.EMBEDDING_SHAPE, {"prompt": "a"}), "prompt")
    assert (older.request, older.unused) == ({"input": "a"}, [])


def test_what_is_passed_over_is_named() -> None:
    asked = {"truncate": True, "shift": True, "odd": 1, "think": True}
    found = generate(chats=False, **asked).unused
    assert [each.split()[0] for each in found] == ["truncate", "shift", "'odd'", "think"]


@pytest.mark.parametrize(
    ("shape", "fields", "param"),
    [
        (request.CHAT_SHAPE, {"format": "xml"}, "format"),
        (request.CHAT_SHAPE, {"messages": [{"content": "x"}]}, "messages[0].role"),
        (request.CHAT_SHAPE, {"options": {"top_k": "x"}}, "options.top_k"),
        (request.CHAT_SHAPE, {"options": {"temperature": 9}}, "options.temperature"),
        (request.CHAT_SHAPE, {"think": "hard"}, "think"),
        (request.GENERATE_SHAPE, {"template": "{{ .Prompt }}"}, "template"),
        (request.GENERATE_SHAPE, {"raw": True, "system": "x"}, "system"),
        (request.GENERATE_SHAPE, {"context": ["1"]}, "context[0]"),
        (request.GENERATE_SHAPE, {"_debug_render_only": True}, "_debug_render_only"),
        (request.EMBED_SHAPE, {"input": 5}, "input"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(shape: Shape, fields: Any, param: str) -> None:
    assert refused(shape, **fields) == param


def test_pictures_need_a_chat() -> None:
    with pytest.raises(HeadraceError) as caught:
        generate(chats=False, images=[PIXEL])
    assert caught.value.param == "images"

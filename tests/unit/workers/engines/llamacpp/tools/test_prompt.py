"""Requests with tools for a server that cannot offer any, or not make the model call one."""

from __future__ import annotations

from typing import Any

import pytest

from workers.engines.llamacpp.tools.prompt import Expected, prepare
from workers.engines.openai.refusal import Refusal

ASK = {"role": "user", "content": "Weather in Paris?"}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANSWER = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": ANSWER}}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


WEATHER = tool("weather", parameters=PLACE, strict=True)
NAMED = {"type": "function", "function": {"name": "time"}}


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": [ASK], "tools": [WEATHER, tool("time")], **more}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    inner = {"mode": mode, "tools": [tool(name) for name in names]}
    return {"tool_choice": {"type": "allowed_tools", "allowed_tools": inner}}


def calling(*found: tuple[str, str]) -> dict[str, Any]:
    calls = [
        {"id": f"id-{name}", "type": "function", "function": {"name": name, "arguments": said}}
        for name, said in found
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "id-weather", "content": content}


def written(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    sent, expected = prepare({"messages": list(messages)}, knows=False)
    assert expected is None
    found: list[dict[str, Any]] = sent["messages"]
    return found


def test_functions_are_described_where_the_template_cannot() -> None:
    sent, expected = prepare(asked(temperature=0, parallel_tool_calls=True), knows=False)
    assert expected == Expected("written", ("weather", "time"))
    assert sent.keys() == {"messages", "temperature"}
    system, user = sent["messages"]
    assert user == ASK
    assert system["role"] == "system"
    assert '{"name":"time"}\nTo call one, answer with only:\n<tool_call>\n' in system["content"]
    assert '"properties":{"city":{"type":"string"}}' in system["content"]
    assert "strict" not in system["content"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_they_are_so_in_the_first_system_message(role: str) -> None:
    parts = [{"type": "text", "text": "Be brief."}]
    for content in ("Be brief.", parts):
        own = {"role": role, "content": content}
        sent, _ = prepare({**asked(), "messages": [own, ASK]}, knows=False)
        assert [message["role"] for message in sent["messages"]] == [role, "user"]
        assert sent["messages"][0]["content"].startswith("Be brief.\n\nYou may call functions.")
        assert own["content"] == content, "the request itself stays as it is"


def test_calls_and_results_of_the_history_are_written_out() -> None:
    called = calling(("weather", '{"city": "Oslo"}'), ("time", "{}"))
    _, assistant, results, last = written(ASK, called, result("Snow."), result("9:00"), ASK)
    assert assistant == {
        "role": "assistant",
        "content": '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>',
    }
    said = "<tool_response>\nSnow.\n</tool_response>\n<tool_response>\n9:00\n</tool_response>"
    assert results == {"role": "user", "content": said}
    assert last == ASK


def test_what_was_said_beside_a_call_stays_before_it() -> None:
    for content in ("Let me see.", [{"type": "text", "text": "Let me see."}]):
        (found,) = written({**calling(("weather", "{")), "content": content})
        call = '<tool_call>\n{"name": "weather", "arguments": "{"}\n</tool_call>'
        assert found["content"] == f"Let me see.\n{call}", "arguments that are no JSON are a text"


def test_a_picture_in_a_result_stays_one() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    (found,) = written(result([{"type": "text", "text": "A map:"}, picture]))
    assert found["role"] == "user"
    assert picture in found["content"]
    assert [part["type"] for part in found["content"]] == ["text", "text", "image_url", "text"]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": "none"},
        {"tools": []},
        allowed("required", "other"),
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": ["weather"]}}},
    ],
)
def test_where_none_may_be_called_none_is_described(more: dict[str, Any]) -> None:
    sent, expected = prepare(asked(**more), knows=False)
    assert (sent, expected) == ({"messages": [ASK]}, None)


@pytest.mark.parametrize(
    ("choice", "names", "named"),
    [
        ("required", ("weather", "time"), False),
        (NAMED, ("time",), True),
        (allowed("required", "weather")["tool_choice"], ("weather",), False),
    ],
)
@pytest.mark.parametrize("knows", [False, True])
def test_a_call_that_must_come_is_forced_by_its_shape(
    knows: bool, choice: Any, names: tuple[str, ...], named: bool
) -> None:
    request = asked(tool_choice=choice, logprobs=True, stop=["\n"], response_format=FORMAT)
    sent, expected = prepare(request, knows)
    assert expected == Expected("forced", names, named=named)
    assert not sent.keys() & {"logprobs", "stop", "parallel_tool_calls"}
    shape = sent["response_format"]["json_schema"]["schema"]
    assert [each["properties"]["name"]["const"] for each in shape["anyOf"]] == list(names)
    assert shape["anyOf"][0]["properties"]["arguments"] == {"$ref": "#/$defs/0"}
    nothing = {"type": "object", "properties": {}}
    assert list(shape["$defs"].values()) == [
        PLACE if name == "weather" else nothing for name in names
    ]
    if knows:
        assert (sent["tools"], sent["tool_choice"]) == (request["tools"], "none")
        assert sent["messages"] == [ASK]
    else:
        assert "tools" not in sent
        assert f"Call one of these functions: {', '.join(names)}." in sent["messages"][0]["content"]


def test_references_within_parameters_keep_their_aim() -> None:
    refs = {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#"}, "c": {"$ref": "#here"}}
    inner = {"properties": refs, "$defs": {"A": {"$anchor": "here"}}}
    text = {"const": '"$ref":"#'}
    tools = [tool("weather"), tool("f", parameters={**inner, "not": text})]
    sent, _ = prepare({"messages": [ASK], "tools": tools, "tool_choice": "required"}, knows=False)
    moved = sent["response_format"]["json_schema"]["schema"]["$defs"]["1"]
    assert moved["type"] == "object"
    assert moved["properties"] == {
        "a": {"$ref": "#/$defs/1/$defs/A"},
        "b": {"$ref": "#/$defs/1"},
        "c": {"$ref": "#here"},
    }
    assert moved["not"] == text


@pytest.mark.parametrize("knows", [False, True])
def test_an_answer_in_json_may_be_a_call_instead(knows: bool) -> None:
    sent, expected = prepare(asked(response_format=FORMAT), knows)
    assert expected == Expected("either", ("weather", "time"))
    shape = sent["response_format"]["json_schema"]["schema"]
    assert shape["anyOf"][2] == {"$ref": "#/$defs/2"}
    assert shape["$defs"]["2"]["properties"] == {"a": {"$ref": "#/$defs/2/$defs/A"}}
    assert "<tool_call>" not in sent["messages"][0]["content"], "which the schema does not let pass"
    free, _ = prepare(asked(response_format={"type": "json_object"}), knows)
    assert free["response_format"]["json_schema"]["schema"]["$defs"]["2"] == {"type": "object"}


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_template_that_knows_tools_gets_what_is_left_to_the_model_as_it_came(choice: Any) -> None:
    history = [ASK, calling(("time", "{}")), result("9:00")]
    request = {**asked(parallel_tool_calls=False), "tool_choice": choice, "messages": history}
    assert prepare(request, knows=True) == (request, None)


@pytest.mark.parametrize("name", ["grammar", "json_schema"])
def test_a_form_of_text_cannot_hold_for_a_call_that_must_come(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        prepare(asked(tool_choice="required", **{name: "x"}), knows=False)
    assert caught.value.param == name


@pytest.mark.parametrize("choice", [{"type": "custom"}, {"type": "allowed_tools"}])
def test_a_choice_that_nobody_knows_is_refused(choice: Any) -> None:
    with pytest.raises(Refusal) as caught:
        prepare(asked(tool_choice=choice), knows=False)
    assert (caught.value.param, caught.value.code) == ("tool_choice", "unsupported_parameter")

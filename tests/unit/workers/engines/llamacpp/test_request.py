from __future__ import annotations

from typing import Any

import orjson
import pytest

from workers.engines.llamacpp import request

PLAIN: list[dict[str, Any]] = [
    {"messages": [{"role": "assistant", "content": None}]},
    {"messages": [{"role": "user", "content": "null"}], "seed": None},
    {"messages": [], "logprobs": True, "top_logprobs": 0},
    {"messages": [], "top_logprobs": 2},
    {"input": "null"},
]


@pytest.mark.parametrize("request_", PLAIN)
def test_what_is_taken_well_stays_as_it_is(request_: dict[str, Any]) -> None:
    assert orjson.loads(request.without(orjson.dumps(request_))) == request_


def test_without_a_sign_of_it_the_body_is_not_even_read() -> None:
    assert request.without(b"no JSON") == b"no JSON"


@pytest.mark.parametrize("rows", ["messages", "input"])
def test_a_message_keeps_its_content_alone_of_what_is_null(rows: str) -> None:
    told = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    body = orjson.dumps({rows: [{**told, "name": None, "refusal": None}, told]})
    assert orjson.loads(request.without(body)) == {rows: [told, told]}


def test_a_call_without_arguments_has_none() -> None:
    """As some clients write them down; llama-server would answer 500."""
    empty = {"id": "c", "function": {"name": "f", "arguments": ""}}
    plain = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "user", "content": '"arguments":""'}
    body = {"messages": [said, {"role": "assistant", "tool_calls": [empty, plain]}]}
    told = {"messages": [said, {"role": "assistant", "tool_calls": [plain, plain]}]}
    assert orjson.loads(request.without(orjson.dumps(body))) == told
    items = [{"type": "function_call", "arguments": ""}, {"type": "message"}]
    (call, _) = orjson.loads(request.without(orjson.dumps({"input": items})))["input"]
    assert call == {"type": "function_call", "arguments": "{}"}


def test_a_tool_is_described_by_what_it_has() -> None:
    """A null within its schema means something."""
    function = {"name": "f", "parameters": {"enum": ["a", None]}}
    lame = {**function, "description": None, "strict": None}
    body = {"tools": [{"type": "function", "function": lame}, {"type": None, **lame}]}
    plain = [{"type": "function", "function": function}, function]
    assert orjson.loads(request.without(orjson.dumps(body))) == {"tools": plain}
    assert orjson.loads(request.without(b'{"tools":null}')) == {"tools": []}


def test_no_probabilities_of_none() -> None:
    body = {"logprobs": False, "top_logprobs": 0}
    assert orjson.loads(request.without(orjson.dumps(body))) == {**body, "top_logprobs": None}

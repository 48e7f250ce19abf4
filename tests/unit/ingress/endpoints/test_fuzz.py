"""Whatever is sent: one answer, no 5xx that is ours, no traceback, and always the envelope."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.api import endpoints
from schemas.api.shape import Shape
from tests.unit.ingress.loopback import Reply, loopback_ingress

USER = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
GOOD: dict[str, tuple[Shape, dict[str, Any]]] = {
    "/v1/chat/completions": (
        endpoints.CHAT.shape,
        {
            "model": "echo",
            "messages": [
                {"role": "system", "content": "x"},
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "5", "tool_call_id": "1"},
            ],
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
            "logit_bias": {"5": 1},
            "stop": ["x"],
            "n": 2,
        },
    ),
    "/v1/completions": (
        endpoints.COMPLETIONS.shape,
        {"model": "echo", "prompt": ["hi", "ho"], "n": 2},
    ),
    "/v1/embeddings": (endpoints.EMBEDDINGS.shape, {"model": "echo", "input": [[1, 2], [3]]}),
    "/v1/responses": (
        endpoints.RESPONSES.shape,
        {
            "model": "echo",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "{}"}]},
                {"type": "function_call_output", "call_id": "1", "output": "5"},
            ],
            "tools": [{"type": "function", **FUNCTION}],
            "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
            "reasoning": {"effort": "low"},
        },
    ),
    "/v1/messages": (
        endpoints.MESSAGES.shape,
        {
            "model": "echo",
            "max_tokens": 5,
            "system": [{"type": "text", "text": "x"}],
            "messages": [USER, {"role": "user", "content": "x"}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "f"},
        },
    ),
    "/v1/messages/count_tokens": (
        endpoints.COUNT_TOKENS.shape,
        {"model": "echo", "messages": [USER]},
    ),
    "/v1/responses/input_tokens": (endpoints.RESPONSES.shape, {"model": "echo", "input": [USER]}),
    "/v1/moderations": (
        endpoints.MODERATIONS.shape,
        {"model": "echo", "input": [{"type": "text", "text": "violence"}]},
    ),
    "/v1/rerank": (
        endpoints.RERANK.shape,
        {"model": "echo", "query": "a", "documents": ["a", {"text": "b"}]},
    ),
}
PATHS = st.sampled_from(sorted(GOOD))
OURS = ("invalid_structured_output", "engine_failed")
"""Codes of 5xx answers that are the engine's fault: the double says what was asked."""

NUMBERS = st.integers(-3, 40) | st.integers() | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["type", "text", "name"]), inner)
    ),
    max_leaves=10,
)
Send = Callable[[str, bytes], Reply]


@pytest.fixture(scope="module", params=["n=1", "n=0"])
def send(request: pytest.FixtureRequest) -> Iterator[Send]:
    """Gives one body to the ingress, whose loop turns only for that."""
    with asyncio.Runner() as runner:
        around = loopback_ingress(f"echo://?{request.param}")
        ingress = runner.run(around.__aenter__())
        yield lambda path, body: runner.run(ingress.post(path, body))
        runner.run(around.__aexit__(None, None, None))


def sound(path: str, answer: Reply) -> None:
    assert answer.headers["x-request-id"]
    if answer.status == 200:
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.events
        else:
            assert isinstance(answer.json, dict)
        return
    error = answer.json["error"]
    assert answer.status < 500 or error["code"] in OURS, error
    assert error["message"]
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    assert isinstance(error["param"], str | None)
    assert (answer.json.get("type") == "error") == path.startswith("/v1/messages")


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(found, list):
        for index, value in enumerate(found):
            yield (*path, index)
            yield from places(value, (*path, index))


@st.composite
def nearly_good(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good request with up to three values that are anything, at any depth."""
    path = draw(PATHS)
    shape, good = GOOD[path]
    body = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        spots = [*places(body), *((name,) for name in sorted(shape.names))]
        *way, last = draw(st.sampled_from(spots))
        inner: Any = body
        for step in way:
            inner = inner[step]
        inner[last] = draw(JSON)
    return path, json.dumps(body).encode()


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)


@FUZZ
@given(PATHS, st.binary(max_size=60))
@example("/v1/chat/completions", b'{"a":1,"a":1}')
@example("/v1/messages", b"[" * 2000)
@example("/v1/embeddings", b"\xff\xfe{}")
def test_any_bytes(send: Send, path: str, body: bytes) -> None:
    answer = send(path, body)
    sound(path, answer)
    assert answer.status == 400


@FUZZ
@given(PATHS, JSON)
def test_any_json(send: Send, path: str, value: Any) -> None:
    answer = send(path, json.dumps(value).encode())
    sound(path, answer)
    assert answer.status == 400


@FUZZ
@given(nearly_good())
def test_anything_nearly_good(send: Send, sent: tuple[str, bytes]) -> None:
    path, body = sent
    sound(path, send(path, body))


def test_the_good_ones_are_good(subtests: pytest.Subtests, send: Send) -> None:
    for path in sorted(GOOD):
        with subtests.test(path):
            answer = send(path, json.dumps(GOOD[path][1]).encode())
            sound(path, answer)
            assert answer.status == 200, answer.body

"""Thoughts under the name that clients look for."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.drive import JSON, RecordingSink
from workers.engines.openai.rewrite import Thoughts

TEXTS = st.text(max_size=30) | st.sampled_from(['"reasoning":"x"', '\\"reasoning":', '"', "\\"])


def named(chunk: bytes) -> bytes:
    sink = RecordingSink()
    sink.start(200, JSON)
    Thoughts(sink).data(chunk)
    return sink.body


@given(content=TEXTS, thought=TEXTS, spaced=st.booleans())
def test_they_are_there_twice_and_nothing_else_changes(
    content: str, thought: str, spaced: bool
) -> None:
    message = {"role": "assistant", "content": content, "reasoning": thought}
    dumped = json.dumps(message).encode() if spaced else orjson.dumps(message)
    assert orjson.loads(named(dumped)) == {**message, "reasoning_content": thought}


@given(content=TEXTS)
def test_without_any_the_bytes_pass(content: str) -> None:
    for thought in ({}, {"reasoning": None}, {"reasoning": "a", "reasoning_content": "a"}):
        dumped = orjson.dumps({"content": content, **thought})
        assert named(dumped) == dumped


@pytest.mark.parametrize("events", [1, 3])
def test_every_event_of_a_chunk_has_them(events: int) -> None:
    event = b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\n\n'
    assert named(event * events).count(b'"reasoning_content":"hm","reasoning":"hm"') == events

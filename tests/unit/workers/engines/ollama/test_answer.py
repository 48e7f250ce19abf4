"""Ids of answers; embeddings: test_engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.drive import RecordingSink
from workers.engines.ollama.answer import AnswerId, embeddings


@pytest.mark.parametrize("kind", [b"chatcmpl", b"cmpl"])
def test_an_id_out_of_999_becomes_the_jobs(kind: bytes) -> None:
    sink = RecordingSink()
    answer_id = AnswerId(sink, "0f")
    answer_id.start(200, "text/event-stream")
    for word in (b"7", b'\\"id\\":\\"chatcmpl-7\\"'):
        answer_id.data(b'{"id":"%b-7","choices":[{"id":"call_7","text":"%b"}]}' % (kind, word))
    assert sink.body.count(b'"id":"%b-0f"' % kind) == 2
    assert sink.body.count(b'"id":"call_7"') == 2
    assert sink.body.count(b'\\"id\\":\\"chatcmpl-7\\"') == 1


@pytest.mark.parametrize(
    "found",
    [
        {"error": "it broke"},
        {"embeddings": None},
        {"embeddings": []},
        {"embeddings": ["x"]},
        {"embeddings": [None]},
    ],
)
@pytest.mark.parametrize("form", ["float", "base64"])
def test_an_answer_without_vectors_is_none(found: dict[str, Any], form: str) -> None:
    with pytest.raises((LookupError, TypeError)):
        embeddings(found, {"encoding_format": form})


def test_an_id_that_cannot_be_met_twice_stays() -> None:
    sink = RecordingSink()
    answer_id = AnswerId(sink, "0f")
    answer_id.start(200, "application/json")
    answer_id.data(b'{"id":"chatcmpl-RXbJFyXyJiut6rmzQEjnswzMkodm9fi8"}')
    assert sink.body == b'{"id":"chatcmpl-RXbJFyXyJiut6rmzQEjnswzMkodm9fi8"}'

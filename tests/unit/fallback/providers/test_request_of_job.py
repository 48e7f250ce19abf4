from __future__ import annotations

from typing import Any

import orjson
import pytest

from fallback.cost.pricing import OUTPUT_TOKENS
from fallback.providers.request import request_of
from schemas import multipart
from schemas.jobs import Begun
from schemas.multipart import Part
from tests.unit import fakes

CHAT = "/v1/chat/completions"


def asked(body: bytes, endpoint: str, **of_job: Any) -> tuple[dict[str, Any], bytes]:
    return request_of(fakes.job(endpoint=endpoint, **of_job), body)


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [("/v1/chat/completions", "max_tokens"), ("/v1/responses", "max_output_tokens")],
)
@pytest.mark.parametrize("said", [{}, {"max_tokens": None}, {"max_tokens": -1}])
def test_an_answer_without_a_limit_gets_one(
    endpoint: str, field: str, said: dict[str, object]
) -> None:
    request, body = asked(orjson.dumps({"model": "m", **said}), endpoint)
    assert request == {"model": "m", field: OUTPUT_TOKENS}
    assert orjson.loads(body) == request


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": -1}, OUTPUT_TOKENS),
        ({"max_completion_tokens": 9}, 16),  # a chat's
    ],
)
def test_a_completion_without_a_limit_gets_openais(said: dict[str, object], limit: int) -> None:
    request, body = asked(orjson.dumps({"prompt": "x", **said}), "/v1/completions")
    assert request["max_tokens"] == limit
    assert orjson.loads(body) == request


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [7, 0])
def test_a_limit_is_left_as_it_is(name: str, limit: int) -> None:
    body = b'{ "%s":%d }' % (name.encode(), limit)
    request, left = asked(body, CHAT)
    assert (request, left) == ({name: limit}, body)


def test_what_writes_nothing_has_none() -> None:
    body = b'{"input":"x"}'
    assert asked(body, "/v1/embeddings") == ({"input": "x"}, body)


def test_a_form_is_its_texts_and_its_uploads() -> None:
    parts = [Part("model", b"m"), *(Part("file", b, "a.wav", "audio/wav") for b in (b"1", b"2"))]
    body, content_type = multipart.put(parts, "language", "en")
    request, left = asked(body, "/v1/audio/transcriptions", content_type=content_type)
    assert (request, left) == (
        {"model": "m", "language": "en", "file": [b"1", b"2"]},
        body,
    )


@pytest.mark.parametrize(("limit", "left"), [(10, 7), (3, 1), (2, 1)])
def test_an_answer_that_was_begun_is_the_last_message_and_counts(limit: int, left: int) -> None:
    said = {"role": "user", "content": "x"}
    body = orjson.dumps({"messages": [said], "max_tokens": limit})
    request, sent = asked(body, CHAT, begun=Begun(3, "a: b"))
    whole = {"messages": [said, {"role": "assistant", "content": "a: b"}], "max_tokens": left}
    assert request == orjson.loads(sent) == whole


def test_an_answer_of_which_nothing_was_said_is_a_new_one() -> None:
    body = orjson.dumps({"messages": [], "max_tokens": 5})
    request, sent = asked(body, CHAT, begun=Begun(0, ""))
    assert request == orjson.loads(sent) == {"messages": [], "max_tokens": 5}

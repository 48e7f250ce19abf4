from __future__ import annotations

import orjson
import pytest

from fallback.case import request_of
from fallback.estimate import OUTPUT_TOKENS
from schemas import multipart
from schemas.multipart import Part

JSON = "application/json"


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("said", [{}, {"max_tokens": None}, {"max_tokens": -1}])
def test_an_answer_without_a_limit_gets_one(
    endpoint: str, field: str, said: dict[str, object]
) -> None:
    request, body = request_of(orjson.dumps({"model": "m", **said}), JSON, endpoint)
    assert request == {"model": "m", field: OUTPUT_TOKENS}
    assert orjson.loads(body) == request


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_is_left_as_it_is(name: str) -> None:
    body = b'{ "%s":7 }' % name.encode()
    request, left = request_of(body, JSON, "/v1/chat/completions")
    assert (request, left) == ({name: 7}, body)


def test_what_writes_nothing_has_none() -> None:
    body = b'{"input":"x"}'
    assert request_of(body, JSON, "/v1/embeddings") == ({"input": "x"}, body)


def test_a_form_is_its_texts_and_its_uploads() -> None:
    parts = [Part("model", b"m"), *(Part("file", b, "a.wav", "audio/wav") for b in (b"1", b"2"))]
    body, content_type = multipart.put(parts, "language", "en")
    request, left = request_of(body, content_type, "/v1/audio/transcriptions")
    assert (request, left) == (
        {"model": "m", "language": "en", "file": [b"1", b"2"]},
        body,
    )

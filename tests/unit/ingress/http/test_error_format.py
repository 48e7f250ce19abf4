from __future__ import annotations

import orjson
import pytest

from ingress.http import error_format
from ingress.http.error_format import ANTHROPIC, OPENAI, RESPONSES, error_of, of
from schemas import errors
from schemas.errors import CODES, HeadraceError

ANTHROPIC_TYPES = {
    *("invalid_request_error", "authentication_error", "permission_error", "not_found_error"),
    *("request_too_large", "rate_limit_error", "api_error", "timeout_error", "overloaded_error"),
}
"""Of Anthropic's API reference."""


@pytest.mark.parametrize("kind", CODES.values())
def test_every_error_has_a_type_that_anthropic_knows(kind: type[HeadraceError]) -> None:
    found = orjson.loads(ANTHROPIC.refuse(kind("why", param="p"), "req-1"))
    assert found["type"] == "error"
    assert found["request_id"] == "req-1"
    assert found["error"]["type"] in ANTHROPIC_TYPES
    assert found["error"]["message"] == "why"
    assert (found["error"]["type"] == "invalid_request_error") <= (kind.status < 500)


def test_openais_envelope_is_the_errors_own() -> None:
    error = errors.QueueFull("full", retry_after=3)
    assert OPENAI.refuse(error, "req-1") == error.json()
    assert OPENAI.interrupt(error, "req-1") == b"data: " + error.json() + b"\n\n"


def test_events_of_the_responses_api_carry_the_error_in_both_forms() -> None:
    event = RESPONSES.interrupt(errors.StreamBroken("lost"), "req-1")
    assert event.startswith(b"event: error\ndata: {")
    found = orjson.loads(event.partition(b"data: ")[2])
    assert (found["type"], found["code"], found["message"]) == ("error", "stream_broken", "lost")
    assert found["error"]["code"] == "stream_broken"


def test_events_of_messages_are_errors() -> None:
    event = ANTHROPIC.interrupt(errors.StreamBroken("lost"), "req-1")
    assert event.startswith(b'event: error\ndata: {"type":"error"')


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", ANTHROPIC),
        ("/messages", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/v1/chat/completions", OPENAI),
        ("/v1/messagesx", OPENAI),
    ],
)
def test_the_path_tells_the_dialect(path: str, dialect: error_format.Dialect) -> None:
    assert of(path, {}) is dialect


def test_of_the_models_the_client_tells_it() -> None:
    version = {"anthropic-version": "2023-06-01"}
    for path in ("/v1/models", "/models", "/v1/models/org/mill"):
        assert (of(path, {}), of(path, version)) == (OPENAI, ANTHROPIC)
    assert of("/v1/chat/completions", version) is OPENAI
    assert of("/v1/modelsx", version) is OPENAI


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"error":"x"}', b'{"error":null}', b"x"])
def test_what_is_no_envelope_has_no_error(document: bytes) -> None:
    assert error_of(document) is None

"""Errors as each API says them."""

from __future__ import annotations

import orjson
import pytest

from schemas import errors
from schemas.api.base import PLAIN, Api
from schemas.api.chat.answer import API as CHAT
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.responses.answer import API as RESPONSES
from schemas.errors import CODES, HeadraceError

ANTHROPIC_TYPES = {
    *("invalid_request_error", "authentication_error", "permission_error", "not_found_error"),
    *("request_too_large", "rate_limit_error", "api_error", "timeout_error", "overloaded_error"),
}
"""Of Anthropic's API reference."""


def document(api: Api, error: HeadraceError) -> bytes:
    return api.error_document(error.fields(), error.status, "req-1")


def event(api: Api, error: HeadraceError) -> bytes:
    return api.error_event(error.fields(), error.status, "req-1")


def test_every_error_has_a_type_that_anthropic_knows(subtests: pytest.Subtests) -> None:
    for kind in CODES.values():
        with subtests.test(kind.__name__):
            found = orjson.loads(document(MESSAGES, kind("why", param="p")))
            assert found["type"] == "error"
            assert found["request_id"] == "req-1"
            assert found["error"]["type"] in ANTHROPIC_TYPES
            assert found["error"]["message"] == "why"
            assert (found["error"]["type"] == "invalid_request_error") <= (kind.status < 500)


@pytest.mark.parametrize("api", [PLAIN, CHAT])
def test_openais_envelope_is_the_errors_own(api: Api) -> None:
    error = errors.QueueFull("full", retry_after=3)
    assert document(api, error) == error.json()
    assert event(api, error) == b"data: " + error.json() + b"\n\n"


def test_events_of_the_responses_api_carry_the_error_in_both_forms() -> None:
    error = errors.StreamInterrupted("lost")
    assert document(RESPONSES, error) == error.json()
    told = event(RESPONSES, error)
    assert told.startswith(b"event: error\ndata: {")
    found = orjson.loads(told.partition(b"data: ")[2])
    assert (found["type"], found["code"], found["message"]) == (
        "error",
        "stream_interrupted",
        "lost",
    )
    assert found["error"]["code"] == "stream_interrupted"


def test_events_of_messages_are_errors() -> None:
    told = event(MESSAGES, errors.StreamInterrupted("lost"))
    assert told.startswith(b'event: error\ndata: {"type":"error"')

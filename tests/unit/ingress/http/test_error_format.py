from __future__ import annotations

import orjson
import pytest

from ingress.http.error_format import error_of, of, refusal_event
from schemas.api.base import PLAIN, Api
from schemas.api.chat.answer import API as CHAT
from schemas.api.messages.answer import API as MESSAGES


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", MESSAGES),
        ("/messages", MESSAGES),
        ("/v1/messages/count_tokens", MESSAGES),
        ("/v1/chat/completions", CHAT),
        ("/v1/messages/batches", MESSAGES),
        ("/v1/messagesx", PLAIN),
    ],
)
def test_the_path_tells_who_says_an_error(path: str, api: Api) -> None:
    assert of(path, {}) is api


def test_where_the_path_does_not_tell_it_the_client_does() -> None:
    version = {"anthropic-version": "2023-06-01"}
    for path in ("/v1/models", "/models", "/v1/models/org/mill"):
        assert (of(path, {}), of(path, version)) == (PLAIN, MESSAGES)
    for path in ("/v1/files", "/v1/v1/messages"):
        assert of(path, {}, served=False) is PLAIN
        assert of(path, version, served=False) is MESSAGES
    assert of("/v1/chat/completions", version) is CHAT


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/usage", "/props", "/v1/queue", "/v1/modelsx"])
def test_what_is_served_here_alone_has_one_form_for_all(path: str) -> None:
    assert of(path, {"anthropic-version": "2023-06-01"}) is PLAIN


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"error":"x"}', b'{"error":null}', b"x"])
def test_what_is_no_envelope_has_no_error(document: bytes) -> None:
    assert error_of(document) is None
    told = refusal_event(PLAIN, document, 400, "req-1")
    assert orjson.loads(told[6:]) == {"error": {"message": document.decode()}}

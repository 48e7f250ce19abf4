from __future__ import annotations

import pytest

from ingress.http.unserved import why
from schemas.api.endpoints import ENDPOINTS


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/files", "no files are kept"),
        ("/files/file-1/content", "no files are kept"),
        ("/v1/messages/batches/b/results", "flex"),
        ("/v1/responses/resp_1/input_items", "answers are not kept"),
        ("/v1/responses/resp_1/", "answers are not kept"),
        ("/chat/completions/chatcmpl-1/messages", "answers are not kept"),
        ("/v1/responses/compact", "the whole conversation"),
        ("/v1/realtime", "no sessions"),
    ],
)
def test_what_does_instead_is_told(path: str, part: str) -> None:
    assert part in why(path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/v1/filesx", "/v2/files", "/x/files", "/v1"),
        *("/v1/responses/", "/v1/chat/completions/chat/completions"),
        *("/v1/responses/input_tokens/", "/chat/completions//"),
    ],
)
def test_of_what_nobody_has_nothing_is_known(path: str) -> None:
    assert why(path) == ""


def test_no_endpoint_is_both_served_and_not() -> None:
    assert not [each.path for each in ENDPOINTS if why(each.path) or why(f"{each.path}/")]

from __future__ import annotations

import pytest

from schemas.streams import end_of


@pytest.mark.parametrize(
    ("events", "at"),
    [
        (b"data: [DONE]\n\n", 0),
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', 15),
        (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', 0),
        (b"event: response.completed\ndata: {}\n\n", 0),
        (b"event: response.created\ndata: {}\n\n", -1),
        (b'data: {"content":"data: [DONE]"}\n\n', -1),
        (b"", -1),
    ],
)
def test_where_a_stream_ends(events: bytes, at: int) -> None:
    assert end_of(events) == at

"""What was generated, found in the bytes of streams and documents of every API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import sse
from schemas.api.base import Api
from schemas.api.chat import answer as chat
from schemas.api.messages import answer as messages
from schemas.api.responses import answer as responses


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def block(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": fields}


CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("api", "event", "generated"),
    [
        (chat.API, delta(role="assistant", content=""), []),
        (chat.API, delta(content='a "content": "b"'), [rb"a \"content\": \"b\""]),
        (chat.API, delta(reasoning_content="hm"), [b"hm"]),
        (chat.API, delta(tool_calls=[CALL]), [rb"{\"a\":1}"]),
        (chat.API, {"choices": [], "usage": {"prompt_tokens": 1}}, []),
        (messages.API, {"type": "ping"}, []),
        (messages.API, block(type="text_delta", text="a"), [b"a"]),
        (messages.API, block(type="thinking_delta", thinking="hm"), [b"hm"]),
        (messages.API, block(type="input_json_delta", partial_json="{"), [b"{"]),
        (responses.API, {"type": "response.output_text.delta", "delta": "a"}, [b"a"]),
        (responses.API, {"type": "response.output_text.done", "text": "a"}, []),
        (responses.API, {"type": "response.reasoning_text.delta", "delta": "hm"}, [b"hm"]),
    ],
)
def test_of_a_stream(api: Api, event: dict[str, Any], generated: list[bytes]) -> None:
    assert api.streamed.findall(sse.dump(event)) == generated


def test_a_document_of_the_responses_api_says_it_in_other_words() -> None:
    part = {"type": "output_text", "text": "a"}
    call = {"type": "function_call", "arguments": "{}"}
    found = orjson.dumps({"output": [{"type": "message", "content": [part]}, call]})
    assert responses.API.written.findall(found) == [b"a", b"{}"]

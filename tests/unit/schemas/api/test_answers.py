"""What answers say of themselves at each API: usage, errors, their end, calls."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import endpoints, media
from schemas.api.base import PLAIN, Api, Usage
from schemas.api.chat.answer import API as CHAT
from schemas.api.completions import API as COMPLETIONS
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.responses.answer import API as RESPONSES

OPENAI = {"prompt_tokens": 5, "completion_tokens": 2}
BROKEN = {"message": "broken"}
NEWER = {"input_tokens": 5, "output_tokens": 2}


@pytest.mark.parametrize("told", [OPENAI, NEWER])
@pytest.mark.parametrize("word", [each.word for each in endpoints.ENDPOINTS])
def test_usage_in_a_document_of_any_api(word: str, told: dict[str, int]) -> None:
    assert endpoints.BY_WORD[word].api.usage({"usage": told}) == Usage(5, 2, 0)


@pytest.mark.parametrize(
    ("api", "found", "usage"),
    [
        (CHAT, {"usage": {**OPENAI, "prompt_tokens_details": {"cached_tokens": 4}}}, (5, 2, 4)),
        (CHAT, {"usage": {"prompt_tokens": "five", "prompt_tokens_details": [1]}}, (-1, 0, 0)),
        (CHAT, {"usage": {"prompt_tokens": 5.0, "completion_tokens": 0.5}}, (5, 0, 0)),
        (RESPONSES, {"response": {"usage": NEWER}}, (5, 2, 0)),
        (
            RESPONSES,
            {"response": {"usage": {**NEWER, "input_tokens_details": {"cached_tokens": 3}}}},
            (5, 2, 3),
        ),
        (MESSAGES, {"usage": {"output_tokens": 2}}, (-1, 2, 0)),
        (MESSAGES, {"usage": {**NEWER, "cache_read_input_tokens": 31}}, (36, 2, 31)),
        (MESSAGES, {"message": {"usage": {"input_tokens": 1, "output_tokens": 0}}}, (1, 0, 0)),
    ],
)
def test_usage(api: Api, found: dict[str, Any], usage: tuple[int, int, int]) -> None:
    assert api.usage(found) == Usage(*usage)


@pytest.mark.parametrize("api", [PLAIN, CHAT, RESPONSES, MESSAGES, media.API])
@pytest.mark.parametrize("found", [{}, {"usage": None}, {"usage": "many"}])
def test_no_usage(api: Api, found: dict[str, Any]) -> None:
    assert api.usage(found) is None


@pytest.mark.parametrize(
    ("api", "event", "message"),
    [
        (CHAT, {"error": {"message": "broken"}}, "broken"),
        (CHAT, {"error": "broken"}, "broken"),
        (CHAT, {"error": None, "choices": []}, None),
        (CHAT, {"error": True, "message": "broken"}, "broken"),
        (CHAT, {"error": True}, "True"),
        (CHAT, {"object": "error", "message": "broken", "type": "BadRequestError"}, "broken"),
        (MESSAGES, {"type": "error", "error": {"message": "broken"}}, "broken"),
        (RESPONSES, {"type": "error", "message": "broken", "code": "x"}, "broken"),
        (RESPONSES, {"type": "response.failed", "response": {"error": {"message": "x"}}}, "x"),
        (RESPONSES, {"type": "response.failed", "response": {}}, "the response failed"),
        (RESPONSES, {"status": "failed", "error": {"message": "x"}}, "x"),
        (RESPONSES, {"status": "failed", "error": None}, "the response failed"),
        (RESPONSES, {"status": "cancelled", "error": None, "output": []}, "the response failed"),
        (
            RESPONSES,
            {"type": "response.completed", "response": {"status": "failed", "error": BROKEN}},
            "broken",
        ),
        (RESPONSES, {"status": "completed", "error": None}, None),
        (PLAIN, {"errors": [{"message": "broken"}]}, "broken"),
        (PLAIN, {"errors": [], "error": {}}, None),
        *(
            (api, {"choices": choices}, said)
            for api in (CHAT, COMPLETIONS)
            for choices, said in (
                ([{"text": "a"}, {"error": {"message": "broken"}}], "broken"),
                ([{"error": "broken"}], "broken"),
                ([{"finish_reason": "error"}], "the answer ended with the finish reason 'error'"),
                ([{"finish_reason": "stop", "error": None}], None),
                ([None], None),
                ("error", None),
            )
        ),
    ],
)
def test_errors(api: Api, event: dict[str, Any], message: str | None) -> None:
    error = api.failure(event)
    assert (error and error["message"]) == message


@pytest.mark.parametrize(
    ("api", "kind", "last"),
    [
        (CHAT, "message_stop", False),
        (MESSAGES, "message_stop", True),
        (MESSAGES, "message_delta", False),
        (RESPONSES, "response.created", False),
        (RESPONSES, "response.completed", True),
        (RESPONSES, "response.incomplete", True),
        (RESPONSES, "response.failed", True),
        (media.API, "transcript.text.delta", False),
        (media.API, "transcript.text.done", True),
        (media.API, "image_edit.completed", True),
    ],
)
def test_the_last_event(api: Api, kind: str, last: bool) -> None:
    assert api.is_last({"type": kind}) is last


CALL = {"name": "f", "arguments": "{}"}
TOOL = {"type": "function", "name": "f", "parameters": {}}


@pytest.mark.parametrize("indent", [None, orjson.OPT_INDENT_2])
@pytest.mark.parametrize(
    ("api", "answer", "calls"),
    [
        (CHAT, {"message": {"tool_calls": [{"function": CALL}]}}, True),
        (CHAT, {"message": {"content": '"tool_calls":[{"name":"f"'}}, False),
        (MESSAGES, {"content": [{"type": "tool_use", "id": "t", "name": "f"}]}, True),
        (MESSAGES, {"content": [{"type": "text", "text": '"type":"tool_use","name":"f"'}]}, False),
        (RESPONSES, {"output": [{"type": "function_call", "call_id": "c", **CALL}]}, True),
        (RESPONSES, {"output": [], "tools": [TOOL]}, False),
        (PLAIN, {"tool_calls": []}, True),
    ],
)
def test_signs_of_calls(api: Api, answer: Any, calls: bool, indent: int | None) -> None:
    said = orjson.dumps(answer, option=indent)
    assert all(sign.search(said) for sign in api.call_signs()) is calls
    if api.call:
        assert all(sign.search(said) for sign in api.call_signs("f")) is calls
        assert not all(sign.search(said) for sign in api.call_signs("g"))


def test_a_transcription_as_a_stream() -> None:
    usage = {"type": "tokens", "input_tokens": 1}
    said = media.transcript_of({"text": "Hi.", "usage": usage})
    assert said == (
        b'event: transcript.text.delta\ndata: {"type":"transcript.text.delta","delta":"Hi."}\n\n'
        b'event: transcript.text.done\ndata: {"type":"transcript.text.done","text":"Hi.",'
        b'"usage":{"type":"tokens","input_tokens":1}}\n\n'
    )
    timed = {"text": "Hi.", "usage": {"type": "duration", "seconds": 1}}
    assert b"usage" not in media.transcript_of(timed), "an event counts tokens or nothing"
    assert media.transcript_of({"text": ""}) == (
        b'event: transcript.text.done\ndata: {"type":"transcript.text.done","text":""}\n\n'
    )

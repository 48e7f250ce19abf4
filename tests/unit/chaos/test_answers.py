"""The judge of chaos runs finds what may be wrong with an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos import answers, asks
from tests.chaos.asks import Ask

TEXT = "#1 w0a w1b"
ASK = Ask(1, "chat", "/v1/chat/completions", {"model": "echo", "stream": True}, [TEXT], (3, 3))


def chunk(text: str | None = None, id: str = "c", **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**delta, **more.pop("delta", {})}, **more}
    return b"data: " + json.dumps({"id": id, "choices": [choice]}).encode() + b"\n\n"


FIRST = chunk(delta={"role": "assistant"})
LAST = chunk(finish_reason="stop")
DONE = b"data: [DONE]\n\n"
WHOLE = [FIRST, *(chunk(piece) for piece in ("#1", " w0a", " w1b")), LAST, DONE]


def usage(prompt: int, completion: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return b"data: " + json.dumps({"id": "c", "choices": [], "usage": counts}).encode() + b"\n\n"


@pytest.mark.parametrize("events", [WHOLE, [*WHOLE[:-1], usage(3, 3), DONE]])
def test_a_right_answer_has_no_fault(events: list[bytes]) -> None:
    assert not answers.fault(ASK, answers.streamed(b"".join([b": hi\n\n", *events])))


@pytest.mark.parametrize(
    "events",
    [
        [*WHOLE[:2], *WHOLE[1:]],
        [*WHOLE[:2], *WHOLE[3:]],
        [*WHOLE, DONE],
        WHOLE[:-1],
        [*WHOLE[:-2], LAST, LAST, DONE],
        [FIRST, *WHOLE],
        [*WHOLE[:3], chunk(" w1b", id="d"), LAST, DONE],
        [*WHOLE[:-1], usage(3, 4), DONE],
        [*WHOLE[:-1], usage(4, 3), DONE],
    ],
    ids=[
        *("a token twice", "a token missing", "two ends", "no end", "two finish reasons"),
        *("two roles", "two ids", "tokens too many", "another prompt"),
    ],
)
def test_what_is_wrong_is_found(events: list[bytes]) -> None:
    assert answers.fault(ASK, answers.streamed(b"".join(events)))


def test_a_part_is_a_beginning() -> None:
    assert not answers.begun(ASK, answers.streamed(b"".join(WHOLE[:3])))
    assert answers.begun(ASK, answers.streamed(b"".join([*WHOLE[:2], *WHOLE[1:3]])))


def test_requests_are_a_function_of_the_seed() -> None:
    found = [asks.drawn(1, number) for number in range(200)]
    assert found == [asks.drawn(1, number) for number in range(200)]
    assert found != [asks.drawn(2, number) for number in range(200)]
    assert len({ask.kind for ask in found}) > 10

"""What was used, as told in each provider's words, and as counted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fallback.cost.spent import NOTHING, Spent
from fallback.providers.base import Task
from fallback.providers.forms import length
from fallback.providers.http import Body
from fallback.providers.metering import (
    PictureCounter,
    RequestCounter,
    TextCounter,
    document,
    of_usage,
)
from schemas.api.endpoints import APIS
from tests.unit.fallback.providers.tasks import chat, form, task
from workers.engines.openai.refusal import JSON


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}, Spent(5, 3)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            Spent(5, 3, 4),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 18}, Spent(5, 13)),
        ({"prompt_tokens": 5, "total_tokens": 5}, Spent(5)),
        ({"input_tokens": 5, "output_tokens": 3}, Spent(5, 3)),
        ({"completion_tokens": 3, "total_tokens": 8}, Spent(5, 3)),
        ({"total_tokens": 5}, Spent(5)),
        ({"prompt_tokens": 5, "completion_tokens": -3, "cached_tokens": -1}, Spent(5)),
        ({"type": "duration", "seconds": 9}, Spent(seconds=9.0)),
        ({"type": "duration", "seconds": -9}, Spent()),
        ({}, Spent(told=False)),
    ],
)
def test_in_openais_words(usage: dict[str, Any], spent: Spent) -> None:
    assert of_usage(APIS["/v1/chat/completions"], usage) == spent
    assert of_usage(APIS["/v1/embeddings"], usage) == spent


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"input_tokens": 5, "output_tokens": 3}, Spent(5, 3)),
        (
            {
                "input_tokens": 5,
                "cache_read_input_tokens": 7,
                "cache_creation_input_tokens": 11,
                "output_tokens": 3,
            },
            Spent(23, 3, 7, stored=11),
        ),
        (
            {
                "input_tokens": 5,
                "cache_creation_input_tokens": 11,
                "cache_creation": {"ephemeral_5m_input_tokens": 9, "ephemeral_1h_input_tokens": 2},
                "output_tokens": 3,
            },
            Spent(16, 3, stored=9 + 4 * 2),
        ),
    ],
)
def test_in_anthropics_words(usage: dict[str, Any], spent: Spent) -> None:
    assert of_usage(APIS["/v1/messages"], usage) == spent


def event(text: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}}]}) + b"\n\n"


ODD: Any = [
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": 5.5, "completion_tokens": 7.5},
    {"promptTokens": 5, "completionTokens": 7},
    {"neurons": 5},
    {"prompt_tokens": 0, "completion_tokens": 2},
]


@pytest.mark.parametrize("usage", ODD)
def test_what_cannot_be_is_counted(usage: dict[str, Any]) -> None:
    """An answer whose usage says nothing is not free."""
    found = {"choices": [{"message": {"content": "eight..."}}], "usage": usage}
    asked = chat("m", "x" * 40)
    assert document(asked, found, orjson.dumps(found)) == Spent(10, 2, told=False)
    counter = TextCounter(asked, False)
    counter.take(event("eight..."))
    counter.hear(usage, {"choices": [], "usage": usage})
    assert counter.told() is None
    assert counter.spent() == Spent(10, 2, told=False)


def test_an_answer_without_words_has_no_tokens() -> None:
    found: Any = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}
    assert document(chat("m"), found, orjson.dumps(found)) == Spent(9, 0)
    counter = TextCounter(chat("m"), False)
    counter.hear(found["usage"], found)
    assert counter.told() == Spent(9, 0)


@pytest.mark.parametrize(
    ("usage", "spent"), [({"total_tokens": 30}, Spent(30)), ({"total_tokens": 0}, None)]
)
def test_embeddings_are_what_is_read(usage: dict[str, Any], spent: Spent | None) -> None:
    asked, found = task("/v1/embeddings", "m", input="x" * 40), {"data": [], "usage": usage}
    assert document(asked, found, orjson.dumps(found)) == (spent or Spent(10, told=False))


def test_events_are_tokens_or_letters_are() -> None:
    for by_event, expected in ((True, 2), (False, 3)):
        counter = TextCounter(chat("m", "x" * 40), by_event)
        for text in ("", "four", "sixteen."[:6]):
            counter.take(event(text))
        assert counter.told() is None
        assert counter.spent() == Spent(10, expected, told=False)


def test_usage_that_grows_is_told_by_its_last() -> None:
    counter = TextCounter(chat("m"), False)
    for completion in (1, 2, 3):
        counter.hear({"prompt_tokens": 4, "completion_tokens": completion}, {})
    assert counter.told() == Spent(4, 3)


def test_the_prompt_may_be_told_first() -> None:
    counter = TextCounter(task("/v1/messages", "m", messages=[]), False)
    counter.hear({"input_tokens": 9, "output_tokens": 1}, {})
    counter.take(b'data: {"delta":{"type":"text_delta","text":"eight..."}}\n\n')
    assert counter.spent() == Spent(9, 2, told=False)
    counter.hear({"output_tokens": 4}, {})
    assert counter.told() == Spent(9, 4)


def test_pictures_add_up() -> None:
    asked = task("/v1/images/generations", "m", prompt="x", size="auto", quality="low")
    counter = PictureCounter(asked)
    assert counter.told() is None
    for _ in range(2):
        told = {"type": "image_generation.completed", "size": "1024x1024"}
        usage = {"input_tokens": 2, "output_tokens": 10, "total_tokens": 12}
        counter.take(b"data: " + orjson.dumps(told) + b"\n\n")
        counter.hear(usage, told)
    assert counter.told() == Spent(4, 20, images=2, size="1024x1024", quality="low")


def test_nothing_is_used_before_it_is_sent() -> None:
    gone = Body(b"", JSON)
    sent = RequestCounter(chat("m", "x" * 40), gone, length)
    assert sent.spent() == NOTHING
    gone.sent = True
    assert sent.spent() == Spent(10, told=False)


HEARD = form("/v1/audio/transcriptions", "m", {"file": bytes(32_000)})
DRAWN = task("/v1/images/generations", "m", prompt="x" * 40, n=3, size="1024x1024")
ADDED_TO = form("/v1/images/edits", "m", {"image": b"png"}, prompt="x" * 40, n="2")


@pytest.mark.parametrize(
    ("asked", "spent"),
    [
        (task("/v1/audio/speech", "m", input="x" * 4000), Spent(characters=4000, told=False)),
        (HEARD, Spent(seconds=2, told=False)),
        (DRAWN, Spent(10, images=3, size="1024x1024", told=False)),
        (ADDED_TO, Spent(10, images=2, told=False)),
        (task("/v1/messages/count_tokens", "m", messages=[]), Spent(told=False)),
    ],
)
def test_what_is_out_is_used_whether_or_not_anybody_waits(asked: Task, spent: Spent) -> None:
    gone = Body(b"", JSON)
    gone.sent = True
    assert RequestCounter(asked, gone, length).spent() == spent


def test_pictures_that_were_begun_are_drawn() -> None:
    """Parts of them may have been sent."""
    counter = PictureCounter(DRAWN)
    counter.take(b'data: {"type":"image_generation.completed"}\n\n')
    assert counter.spent().images == 3
    told = counter.told()
    assert told is not None
    assert told.images == 1


def test_documents_without_usage() -> None:
    raw = b'{"choices":[{"message":{"role":"assistant","content":"eight..."}}]}'
    assert document(chat("m", "x" * 40), orjson.loads(raw), raw) == Spent(10, 2, told=False)

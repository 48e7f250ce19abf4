"""How streams of chats begin, and the tokens that they tell."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api.base import Usage
from tests.doubles.drive import CHAT, RecordingSink, chat, config, job, opened
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.llamacpp.stream import UsageSum
from workers.engines.openai.stream import timed


async def streamed(recorded: bytes, **more: Any) -> RecordingSink:
    async with LlamaCpp() as server, opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        server.streams[CHAT] = [recorded]
        sink = RecordingSink()
        await made.run(job("own", stream=True), orjson.dumps(chat("hi", stream=True, **more)), sink)
    return sink


@pytest.mark.parametrize("name", ["chat", "tools", "reasoning"])
async def test_a_chat_begins_with_empty_content_and_goes_on_as_it_came(name: str) -> None:
    recorded = (DATA / f"{name}.sse").read_bytes()
    assert b'"content":null' in recorded
    sink = await streamed(recorded)
    assert sink.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    expected = recorded.replace(b'"content":null', b'"content":""', 1)
    assert sink.body == expected.replace(b'"smollm2-135m"', b'"own"')


async def test_each_choice_begins_so() -> None:
    sink = await streamed((DATA / "n2.sse").read_bytes(), n=2)
    first: dict[int, Any] = {}
    for event in sink.events:
        for choice in event["choices"]:
            first.setdefault(choice["index"], choice["delta"])
    assert first == {index: {"role": "assistant", "content": ""} for index in (0, 1)}


async def test_one_that_began_with_half_a_character_begins_so_too() -> None:
    """Seen of the real one where the first token is a part of an emoji."""
    recorded = (DATA / "chat.sse").read_bytes()
    first, _, rest = recorded.partition(b"\n\n")
    assert b'"role"' in first
    sink = await streamed(rest)
    assert sink.events[0] == {
        **{key: sink.events[1][key] for key in ("created", "id", "model", "object")},
        "system_fingerprint": sink.events[1]["system_fingerprint"],
        "choices": [
            {"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": ""}}
        ],
    }
    assert sink.body.endswith(rest.replace(b'"smollm2-135m"', b'"own"'))


async def test_words_of_the_model_are_not_changed() -> None:
    said = '"delta":{"role":"assistant","content":null}'
    delta = orjson.dumps({"choices": [{"index": 0, "delta": {"content": said}}]})
    sink = await streamed(b"data: %b\n\ndata: [DONE]\n\n" % delta)
    assert sink.text == said


def report(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def test_one_report_is_taken_as_it_is() -> None:
    sum_ = UsageSum(1)
    sum_.add({"choices": [], "usage": report(9, 4, 2)})
    assert sum_.total() == Usage(prompt=9, completion=4, cached=2)
    assert sum_.document() == report(9, 4, 2)


def test_choices_share_their_prompt() -> None:
    sum_ = UsageSum(2)
    for index in range(2):
        sum_.add({"choices": [{"index": index}], "usage": report(9, 4 + index, 2)})
    assert sum_.total() == Usage(prompt=9, completion=9, cached=2)
    document = sum_.document()
    assert document is not None
    assert (document["prompt_tokens"], document["total_tokens"]) == (9, 18)


def test_the_last_report_of_a_running_choice_counts() -> None:
    sum_ = UsageSum(1)
    for said in (1, 2, 3):
        sum_.add({"choices": [{"index": 0}], "timings": {"prompt_n": 5, "predicted_n": said}})
    assert sum_.total() == Usage(prompt=5, completion=3, cached=0)


def test_nothing_told_is_nothing_known() -> None:
    sum_ = UsageSum(1)
    sum_.add({"choices": [{"index": 0}]})
    assert (sum_.total(), sum_.document()) == (None, None)


def test_one_report_for_several_choices_is_not_divided() -> None:
    sum_ = UsageSum(2)
    sum_.add({"choices": [], "usage": report(9, 20)})
    assert sum_.total() == Usage(prompt=9, completion=20, cached=0)


@pytest.mark.parametrize(
    ("choices", "counts", "total"),
    [(1, (4, 4), 4), (1, (4, 5), 5), (2, (4, 4, 6), 10), (2, (4, 4), 8), (2, (4, 4, 6, 6), 10)],
)
def test_a_report_that_comes_again_counts_once(
    choices: int, counts: tuple[int, ...], total: int
) -> None:
    sum_ = UsageSum(choices)
    for count in counts:
        sum_.add({"choices": [], "usage": report(9, count)})
    assert sum_.total() == Usage(prompt=9, completion=total, cached=0)
    document = sum_.document()
    assert document is not None
    assert document["completion_tokens"] == total


def test_usage_without_a_report_is_taken_from_the_timings() -> None:
    stream = (DATA / "chat_without_usage.sse").read_bytes()
    assert b'"usage"' not in stream
    assert timed(stream) == timed(stream[-900:]) == Usage(prompt=34, completion=6, cached=0)


def test_what_was_cached_is_counted() -> None:
    tail = (
        b'ings":{"cache_n":1}}\n\ndata: {"choices":[{"index":0,"delta":{}}],"timings":'
        b'{"cache_n":31,"prompt_n":1,"predicted_n":8}}\n\ndata: [DONE]\n\n'
    )
    assert timed(tail) == Usage(prompt=32, completion=8, cached=31)


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"data: [DONE]",
        b'data: {"timings":',
        b'data: {"timings":null}\n\n',
        b'data: [{"timings":1}]\n\n',
        b"\xff\n\n",
    ],
)
def test_a_tail_may_say_nothing(tail: bytes) -> None:
    assert timed(tail) is None

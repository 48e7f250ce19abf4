from __future__ import annotations

from typing import Any

import pytest

from workers.engines.openai.usage import Meter, Usage, last_usage


def report(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def test_one_report_is_taken_as_it_is() -> None:
    meter = Meter(1)
    meter.add({"choices": [], "usage": report(9, 4, 2)})
    assert meter.total() == Usage(prompt=9, completion=4, cached=2)
    assert meter.document() == report(9, 4, 2)


def test_choices_share_their_prompt() -> None:
    meter = Meter(2)
    for index in range(2):
        meter.add({"choices": [{"index": index}], "usage": report(9, 4 + index, 2)})
    assert meter.total() == Usage(prompt=9, completion=9, cached=2)
    document = meter.document()
    assert document is not None
    assert (document["prompt_tokens"], document["total_tokens"]) == (9, 18)


def test_the_last_report_of_a_running_choice_counts() -> None:
    meter = Meter(1)
    for said in (1, 2, 3):
        meter.add({"choices": [{"index": 0}], "timings": {"prompt_n": 5, "predicted_n": said}})
    assert meter.total() == Usage(prompt=5, completion=3, cached=0)


def test_nothing_told_is_nothing_known() -> None:
    meter = Meter(1)
    meter.add({"choices": [{"index": 0}]})
    assert (meter.total(), meter.document()) == (None, None)


@pytest.mark.parametrize(
    "tail",
    [
        b'data: {"usage":null}\n\n',
        b'data: {"usage":[1]}\n\n',
        b'data: [{"usage":1}]\n\n',
        b'data: {"usage":{"prompt_tokens":"x"}}\n\n',
    ],
)
def test_a_tail_may_say_anything(tail: bytes) -> None:
    found = last_usage(tail)
    assert found in (None, Usage(0, 0, 0))

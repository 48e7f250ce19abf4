from __future__ import annotations

from typing import Any

import orjson
import pytest

from workers.engines.llamacpp import request


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": [], "logprobs": True, "top_logprobs": 0},
        {"messages": [], "top_logprobs": 2},
        {"input": '"top_logprobs"'},
        {"reasoning_format": "none"},
    ],
)
def test_what_is_taken_well_stays_as_it_is(asked: dict[str, Any]) -> None:
    body = orjson.dumps(asked)
    assert request.without(body) is body


def test_no_probabilities_of_none() -> None:
    body = {"logprobs": False, "top_logprobs": 0}
    assert orjson.loads(request.without(orjson.dumps(body))) == {"logprobs": False}


def test_no_format_of_thoughts() -> None:
    body: dict[str, Any] = {"messages": [], "reasoning_format": None}
    assert orjson.loads(request.without(orjson.dumps(body))) == {"messages": []}

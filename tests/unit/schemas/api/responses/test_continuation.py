"""A response that goes on at another engine: its end says the whole text once."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import endpoints

BEFORE, REST = "Once upon", " a time"
API = endpoints.RESPONSES.api


def ends(text: str) -> list[dict[str, Any]]:
    """The last events of an engine, which say `text`."""
    part = {"type": "output_text", "text": text}
    item = {"type": "message", "id": "m2", "content": [part]}
    return [
        {"type": "response.output_text.done", "item_id": "m2", "text": text},
        {"type": "response.content_part.done", "item_id": "m2", "part": dict(part)},
        {"type": "response.output_item.done", "item": {**item, "content": [dict(part)]}},
        {"type": "response.incomplete", "response": {"output": [item]}},
    ]


@pytest.mark.parametrize("said", [REST, BEFORE + REST], ids=["rest alone", "as llama-server"])
def test_the_end_says_the_whole_text_once(said: str) -> None:
    stream = API.continuation()
    delta = {"type": "response.output_text.delta", "item_id": "m1"}
    stream.heard({**delta, "delta": BEFORE})
    assert stream.told({**delta, "delta": REST}, BEFORE)[0]["delta"] == REST
    done, part, item, last = (stream.told(event, BEFORE)[0] for event in ends(said))
    texts = [
        done["text"],
        part["part"]["text"],
        item["item"]["content"][0]["text"],
        last["response"]["output"][0]["content"][0]["text"],
    ]
    assert texts == [BEFORE + REST] * 4


def test_each_part_has_a_rest_of_its_own() -> None:
    stream = API.continuation()
    delta = {"type": "response.output_text.delta", "delta": " a time"}
    stream.told(dict(delta), BEFORE)
    longer = BEFORE + " a time"
    stream.told(dict(delta), longer)
    [found] = stream.told(ends(longer + " a time")[0], longer)
    assert found["text"] == longer + " a time"

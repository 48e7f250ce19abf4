"""What two servers' answers have in common if one of them is to stand for the other: status,
headers, shape, and the very words of errors. Texts, ids, times and counts may differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SAME = ("content-type", "server", "vary", "access-control-allow-origin")


def shape(value: Any) -> Any:
    """Keys in their order and the kinds of values; of a list the kinds that are in it."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items() if key != "bytes"]
    if isinstance(value, list):
        kinds = [shape(inner) for inner in value]
        return [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
    return type(value).__name__


def events(text: str) -> list[Any]:
    """The shapes of an event stream; those of the same shape in a row are one."""
    found: list[Any] = []
    for block in text.strip().split("\n\n"):
        *name, data = block.split("\n")
        value = data.removeprefix("data: ")
        told = [name, value if value == "[DONE]" else shape(json.loads(value))]
        if not found or found[-1] != told:
            found.append(told)
    return found


def agree(case: Mapping[str, Any], status: int, headers: Mapping[str, str], text: str) -> None:
    """`case`: status, headers and body of the real one. Names of headers in lower case."""
    assert status == case["status"]
    assert {n: headers.get(n) for n in SAME} == {n: case["headers"].get(n) for n in SAME}
    recorded = case["body"]
    if headers.get("content-type", "").startswith("text/event-stream"):
        assert events(text) == events(recorded)
    elif recorded.startswith("{") and status < 400:
        assert shape(json.loads(text)) == shape(json.loads(recorded))
    elif recorded.startswith("{"):
        assert json.loads(text) == json.loads(recorded)
    else:
        assert text == recorded

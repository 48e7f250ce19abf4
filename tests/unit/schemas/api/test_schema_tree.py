"""Schemas as data: their objects, and the places that pointers name."""

from __future__ import annotations

import pytest

from schemas.api.schema_tree import objects, place

SCHEMA = {"anyOf": [{"type": "null"}, {"not": {}}], "$defs": {"a/b": 1, "~": 2, "é": 3, "": 4}}


def test_every_object_is_met_the_schema_first() -> None:
    first, *others = objects(SCHEMA)
    assert first is SCHEMA
    assert len(others) == 4
    assert all(each in others for each in ({"type": "null"}, {"not": {}}, {}, SCHEMA["$defs"]))
    assert list(objects("text")) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([], SCHEMA),
        (["anyOf", "0"], {"type": "null"}),
        (["anyOf", "1", "not"], {}),
        (["$defs", "a~1b"], 1),
        (["$defs", "~0"], 2),
        (["$defs", "é"], 3),
        (["$defs", ""], 4),
    ],
)
def test_a_pointer_names_a_place(steps: list[str], found: object) -> None:
    assert place(SCHEMA, steps) == found


@pytest.mark.parametrize("pointer", ["nothing", "anyOf/7", "anyOf/x", "anyOf/0/type/x"])
def test_a_pointer_that_leads_nowhere(pointer: str) -> None:
    with pytest.raises((KeyError, IndexError, ValueError, TypeError)):
        place(SCHEMA, pointer.split("/"))

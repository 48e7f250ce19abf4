"""A JSON schema as plain data: its objects, and the place that a pointer names. Pure, and without
imports that would slow down the start of the schema checker's child."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_NULLABLE = ("const", "default")  # where null is a value of its own
_VALUES = (*_NULLABLE, "enum", "examples")  # what stands in these is data and no schema


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema, beginning with the schema."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def place(root: Any, steps: Iterable[str]) -> Any:
    """What a JSON Pointer (RFC 6901) names in `root`. `steps`: its parts, without the escapes of
    URLs. Raises KeyError, IndexError, ValueError or TypeError if it leads nowhere."""
    found = root
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found[int(name) if isinstance(found, list) else name]
    return found


def without_nulls(found: Any) -> Any:
    """The schema without its nulls, which mean that a word was left out."""
    if isinstance(found, list):
        return list(map(without_nulls, found))
    if not isinstance(found, dict):
        return found
    return {
        name: value if name in _VALUES else without_nulls(value)
        for name, value in found.items()
        if value is not None or name in _NULLABLE
    }

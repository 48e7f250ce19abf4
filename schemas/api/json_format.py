"""The formats that a request demands of texts and of the arguments of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.api.schema_tree import without_nulls
from schemas.api.shape import invalid

TYPES = ("json_object", "json_schema")
"""Types of formats that demand JSON."""
SHOWN = 4000
"""How many letters of an answer that did not fit the model is shown again."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`schema`: None allows any JSON. `is_object`: the JSON must be an object. `param`: the path of
    the schema in the request."""

    schema: dict[str, Any] | None
    param: str
    is_object: bool = True


@dataclass(frozen=True, slots=True)
class Formats:
    """All formats of one request. `text`: what every text must be. `calls`: what the arguments of
    a call must be, by the tool's name."""

    text: JsonFormat | None
    calls: Mapping[str, JsonFormat] = field(default_factory=dict)

    def __iter__(self) -> Iterator[JsonFormat]:
        yield from (*([self.text] if self.text else []), *self.calls.values())

    def of(self, finished: Finished) -> JsonFormat | None:
        return self.calls.get(finished.tool) if finished.tool else self.text


class Finished(NamedTuple):
    """A whole text of an answer, or the arguments of a call of `tool`. `text` is None if it was too
    long to keep."""

    text: str | None
    tool: str = ""


def read(schema: Any, strict: object, param: str) -> JsonFormat:
    """Only ``strict: false`` turns the schema off; a request without `strict` means its schema.
    Raises InvalidRequest."""
    if schema is not None and not isinstance(schema, dict):
        raise invalid(param, "an object is needed")
    if schema is not None and strict is False:
        return JsonFormat(None, param, is_object=False)
    return JsonFormat(schema, param)


def of_tools(
    tools: Iterable[tuple[str, Mapping[str, Any]]] | None, schema: str
) -> dict[str, JsonFormat]:
    """The formats of the `strict` ones among `tools`, which are pairs of a path and the object with
    the tool's name. `schema`: the field that describes the arguments."""
    return {
        tool["name"]: JsonFormat(without_nulls(tool[schema]), f"{where}.{schema}")
        for where, tool in tools or ()
        if tool.get("strict") is True and isinstance(tool.get(schema), dict)
    }


def formats(text: JsonFormat | None, calls: Mapping[str, JsonFormat]) -> Formats | None:
    """None if the answer may be anything."""
    return Formats(text, calls) if text or calls else None


def shown(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + " \u2026"


def objection(why: str) -> str:
    """The message to the model after a text that did not fit."""
    return f"That is not what was asked for: {why}. Answer again, with nothing but JSON that fits."


def call_objection(why: str) -> str:
    """The result of a call that did not fit, for the model."""
    return f"Error: nothing was done, as the call was not what was asked for: {why}. Call again."

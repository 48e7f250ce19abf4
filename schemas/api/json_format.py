"""The JSON format that a request demands of the texts of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.api.shape import invalid

TYPES = ("json_object", "json_schema")
"""Types of formats that demand JSON."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`schema`: None allows any JSON. `is_object`: the JSON must be an object. `param`: the path of
    the schema in the request."""

    schema: dict[str, Any] | None
    param: str
    is_object: bool = True


def read(schema: Any, strict: object, param: str) -> JsonFormat:
    """Only ``strict: false`` turns the schema off; a request without `strict` means its schema.
    Raises InvalidRequest."""
    if schema is not None and not isinstance(schema, dict):
        raise invalid(param, "an object is needed")
    if schema is not None and strict is False:
        return JsonFormat(None, param, is_object=False)
    return JsonFormat(schema, param)

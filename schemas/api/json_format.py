"""What a request says of the texts of its answer that have to be JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.errors import InvalidRequest

TYPES = ("json_object", "json_schema")
"""Of formats that mean JSON."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`schema` None: any JSON; `is_object`: it must be an object. `param`: where the schema stands
    in the request."""

    schema: dict[str, Any] | None
    param: str
    is_object: bool = True


def read(schema: Any, strict: object, param: str) -> JsonFormat:
    """A client that says ``strict: false`` takes any JSON; what it leaves out it means. Raises
    InvalidRequest."""
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest(f"Invalid value for {param!r}: an object is needed.", param=param)
    if schema is not None and strict is False:
        return JsonFormat(None, param, is_object=False)
    return JsonFormat(schema, param)

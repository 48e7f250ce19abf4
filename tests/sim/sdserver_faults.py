"""sd-server's 500s: faults of the request that its JSON library throws (nlohmann::json)."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.sim.base import document

_NAMES = {str: "string", int: "number", float: "number", bool: "boolean", list: "array"}


class TypeFault(Exception):
    def response(self) -> web.Response:
        return document({"error": "server_error", "message": str(self)}, 500)


def read_json(raw: bytes) -> dict[str, Any]:
    """Raises TypeFault."""
    try:
        return dict(json.loads(raw))
    except json.JSONDecodeError as fault:
        where = f"parse error at line {fault.lineno}, column {fault.colno}"
        why = "syntax error while parsing value - unexpected end of input"
        wanted = "expected '[', '{', or a literal"
        said = f"[json.exception.parse_error.101] {where}: {why}; {wanted}"
        raise TypeFault(said) from None


def typed(asked: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Raises TypeFault."""
    value = asked.get(name, default)
    if isinstance(value, kind):
        return value
    told = f"type must be {_NAMES[kind]}, but is {_NAMES.get(type(value), 'null')}"
    raise TypeFault(f"[json.exception.type_error.302] {told}")

"""How sd-server reads JSON and numbers: with nlohmann::json and std::stoi, faults included."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from aiohttp import web

from tests.doubles.base import document

T = TypeVar("T", str, int)
_KINDS = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
_KINDS |= {dict: "object", type(None): "null"}
_INTEGER = re.compile(r"\s*[+-]?[0-9]+")


class Refused(Exception):
    """A 400 whose error is a mere string."""

    def response(self) -> web.Response:
        return document({"error": str(self)}, 400)


class TypeFault(Refused):
    """A 500 for a fault of the request."""

    def response(self) -> web.Response:
        return document({"error": "server_error", "message": str(self)}, 500)


class ParseFault(TypeFault):
    """What is no JSON: a 500 on its OpenAI pages alone."""


class Unspeakable(Refused):
    """Bytes that are no UTF-8: they stand in the message, which then cannot be written."""

    def response(self) -> web.Response:
        return web.Response(status=500)


def read_json(raw: bytes) -> Any:
    """Raises Refused and those under it. Of the library's messages for what is no JSON there is
    only the one for an early end."""
    if not raw:
        raise Refused("empty body")
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError:
        raise Unspeakable from None
    except json.JSONDecodeError as fault:
        where = f"parse error at line {fault.lineno}, column {fault.colno}"
        why = "syntax error while parsing value - unexpected end of input"
        wanted = "expected '[', '{', or a literal"
        said = f"[json.exception.parse_error.101] {where}: {why}; {wanted}"
        raise ParseFault(said) from None


def value(asked: Any, name: str, default: T) -> T:
    """``asked.value(name, default)``: whole numbers are cut out of any. Raises TypeFault."""
    if not isinstance(asked, dict):
        told = f"cannot use value() with {_KINDS[type(asked)]}"
        raise TypeFault(f"[json.exception.type_error.306] {told}")
    found = asked.get(name, default)
    if isinstance(default, str) and isinstance(found, str):
        return found
    if isinstance(default, int) and isinstance(found, int | float):
        return int(found)
    told = f"type must be {_KINDS[type(default)]}, but is {_KINDS[type(found)]}"
    raise TypeFault(f"[json.exception.type_error.302] {told}")


def taken(asked: Any, name: str, kind: type[T], default: T) -> T:
    """The field if it is of the kind, as it passes over others; booleans are no numbers here."""
    found = asked.get(name) if isinstance(asked, dict) else None
    return found if isinstance(found, kind) and not isinstance(found, bool) else default


def stoi(text: str) -> int | None:
    """The number that a text begins with; what follows does not matter."""
    found = _INTEGER.match(text)
    return int(found[0]) if found else None

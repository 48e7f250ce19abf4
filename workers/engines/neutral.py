"""What asks for nothing, and what llama-server takes badly all the same. Pure.

Measured on b11549: null in a message (but as its content) or in a tool is a 500, `tools` null at
``/v1/responses`` a 400, and so is `top_logprobs` 0 without `logprobs`.
"""

from __future__ import annotations

from typing import Any

import orjson

Entry = dict[str, Any]

_SIGNS = (b"null", b'"top_logprobs"')


def without(body: bytes) -> bytes:
    """The body of a request without such things; as it came if there are none."""
    if not any(sign in body for sign in _SIGNS):
        return body
    request: Entry = orjson.loads(body)
    changes = _changes(request)
    return orjson.dumps({**request, **changes}) if changes else body


def _changes(request: Entry) -> Entry:
    changes: Entry = {}
    if request.get("top_logprobs") == 0 and not request.get("logprobs"):
        changes["top_logprobs"] = None
    for name in ("messages", "input"):
        rows = request.get(name)
        if isinstance(rows, list) and any(None in row.values() for row in rows):
            changes[name] = [_plain(row) for row in rows]
    if "tools" in request:
        changes["tools"] = [_plain_tool(tool) for tool in request["tools"] or ()]
    return changes


def _plain(row: Entry) -> Entry:
    return {name: value for name, value in row.items() if value is not None or name == "content"}


def _plain_tool(tool: Entry) -> Entry:
    plain = _plain(tool)
    if isinstance(plain.get("function"), dict):
        plain["function"] = _plain(plain["function"])
    return plain

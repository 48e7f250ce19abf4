"""Removes values that ask for nothing, but on which llama-server fails. Pure.

Measured on b11549: null in a tool or a message (except as `content`) gives a 500. `tools` null at
``/v1/responses`` gives a 400, as does `top_logprobs` 0 without `logprobs`. Empty arguments of a
call, which some clients write for none, give a 500.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

Entry = dict[str, Any]

_SURE = b"null", b'"top_logprobs"'
SIGNS = (*_SURE, b'"arguments"')
"""Each request with such a value contains one of these."""
_NO_ARGUMENTS = re.compile(rb'"arguments"\s*:\s*""')


def without(body: bytes) -> bytes:
    """The body without such values; unchanged if there are none."""
    if not any(sign in body for sign in _SURE) and _NO_ARGUMENTS.search(body) is None:
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
        if isinstance(rows, list) and (plain := [_plain_row(row) for row in rows]) != rows:
            changes[name] = plain
    if "tools" in request:
        changes["tools"] = [_plain_tool(tool) for tool in request["tools"] or ()]
    return changes


def _plain_row(row: Entry) -> Entry:
    """A message with its calls, or a call of the responses API, without such values."""
    plain = _called(_plain(row))
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [
            {**call, "function": _called(call["function"])} if call.get("function") else call
            for call in calls
        ]
    return plain


def _called(entry: Entry) -> Entry:
    return {**entry, "arguments": "{}"} if entry.get("arguments") == "" else entry


def _plain(row: Entry) -> Entry:
    return {name: value for name, value in row.items() if value is not None or name == "content"}


def _plain_tool(tool: Entry) -> Entry:
    plain = _plain(tool)
    if isinstance(plain.get("function"), dict):
        plain["function"] = _plain(plain["function"])
    return plain

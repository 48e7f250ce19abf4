"""Answers that must be JSON. Every probe raises Unmet or Partial where they are not.

The question says nothing of what the schema demands: only an engine that holds the model to it gets
there, and none by good luck.
"""

from __future__ import annotations

from typing import Any

import orjson

from deploy.compat.rows import row
from deploy.compat.target import (
    CHAT,
    Partial,
    Refused,
    Target,
    brief,
    chat_body,
    fault_of,
    need,
    pieces,
    quoted,
)

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mill": {"type": "string", "enum": ["wheel-7", "wheel-9"]},
        "turns": {"type": "boolean"},
    },
    "required": ["mill", "turns"],
    "additionalProperties": False,
}
_ROOM = 256
"""Tokens: small models like to indent."""


@row("JSON mode / structured output", "a schema holds of which the question says nothing")
async def json(target: Target) -> str:
    choice = (await target.chat("Say hello.", **_held()))["choices"][0]
    _fits(choice["message"].get("content") or "", choice["finish_reason"])
    kind = {"response_format": {"type": "json_object"}, "max_tokens": _ROOM}
    question = 'Answer with this JSON object and nothing else: {"turns": true}'
    plain = (await target.chat(question, **kind))["choices"][0]
    text = plain["message"].get("content") or ""
    if not _an_object(text, cut=plain["finish_reason"] == "length"):
        raise Partial(f"json_schema holds, but json_object gave {brief(text)}")
    return f"it said {brief(choice['message']['content'])} to “Say hello.”"


@row("JSON schema, streamed", "the pieces join to JSON that fits")
async def json_streamed(target: Target) -> str:
    events = await target.chat_stream("Say hello.", **_held())
    choices = pieces(events)
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    _fits(text, choices[-1].get("finish_reason"))
    return f"the pieces join to {brief(text)}"


@row("JSON schema that is none: refused", "400, and param names the schema")
async def bad_schema(target: Target) -> str:
    """Refused with 400 and the place of the fault, not with the engine's own words."""
    wrong = {"type": "object", "properties": {"mill": {"type": "nonsense"}}}
    answer = await target.post(CHAT, chat_body("Say hello.", **_held(wrong)))
    need(answer.status != 200, "a schema with the type 'nonsense' was taken")
    refused = Refused(answer.status, answer.json["error"])
    at = str(refused.error.get("param"))
    need(answer.status == 400 and "schema" in at, refused.reason)
    return refused.reason


def _held(schema: dict[str, Any] = _SCHEMA) -> dict[str, Any]:
    wanted = {"name": "mill", "strict": True, "schema": schema}
    kind = {"type": "json_schema", "json_schema": wanted}
    return {"response_format": kind, "max_tokens": _ROOM}


def _fits(text: str, end: str | None) -> None:
    """Raises No."""
    why = fault_of(_SCHEMA, text)
    cut = f", and was cut at {_ROOM} tokens" if end == "length" else ""
    need(not why, f"the schema does not hold: {quoted(text)}{cut}: {why}")


def _an_object(text: str, *, cut: bool) -> bool:
    """What was cut at the limit is at least the beginning of one."""
    if cut:
        return text.lstrip().startswith("{")
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False

"""Answers that must be JSON. Every probe raises Unmet or Partial where they are not.

The question does not mention what the schema demands, so no model gets there by luck: the engine
has to hold it to the schema.
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
    joined,
    need,
    quoted,
)
from ingress.answer.schema_child import verdict

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
    text = _fitting(choice)
    kind = {"response_format": {"type": "json_object"}, "max_tokens": _ROOM}
    question = 'Answer with this JSON object and nothing else: {"turns": true}'
    plain = (await target.chat(question, **kind))["choices"][0]
    other = plain["message"].get("content") or ""
    if not _an_object(other, cut=plain["finish_reason"] == "length"):
        raise Partial(f"json_schema holds, but json_object gave {brief(other)}")
    return f"it said {brief(text)} to “Say hello.”"


@row("JSON schema, streamed", "the pieces join to JSON that fits")
async def json_streamed(target: Target) -> str:
    choice = joined(await target.chat_stream("Say hello.", **_held()))
    return f"the pieces join to {brief(_fitting(choice))}"


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


def _fitting(choice: Any) -> str:
    """What it says. Raises Unmet unless that fits the schema."""
    text = choice["message"].get("content") or ""
    why = verdict(_SCHEMA, text)
    cut = f", and was cut at {_ROOM} tokens" if choice.get("finish_reason") == "length" else ""
    need(not why, f"the schema does not hold: {quoted(text)}{cut}: {why}")
    return str(text)


def _an_object(text: str, *, cut: bool) -> bool:
    """An answer that was `cut` at the limit need only begin as one."""
    if cut:
        return text.lstrip().startswith("{")
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False

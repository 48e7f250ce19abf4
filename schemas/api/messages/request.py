"""Anthropic's ``POST /v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.messages import history
from schemas.api.shape import (
    ContextEdits,
    Model,
    Request,
    Shape,
    Share,
    Temperature,
    invalid,
    object_in,
    text_in,
)
from schemas.api.tools import check_function


class Message(TypedDict, total=False):
    role: Required[Literal["user", "assistant", "system"]]
    content: Required[str | list[dict[str, Any]]]


class Thinking(TypedDict, total=False):
    """`budget_tokens`: how many tokens of the answer may be thoughts."""

    type: str
    budget_tokens: int | None


class CountRequest(TypedDict, total=False):
    model: Required[Model]
    messages: Required[Annotated[list[Message], Field(min_length=1)]]
    system: str | list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    tool_choice: dict[str, Any] | None
    thinking: Thinking | None
    output_config: dict[str, Any] | None
    output_format: dict[str, Any] | None
    cache_control: dict[str, Any] | None
    container: str | dict[str, Any] | None
    context_management: ContextEdits | None
    inference_geo: str | None
    mcp_servers: list[dict[str, Any]] | None
    service_tier: str | None
    speed: str | None


class MessagesRequest(CountRequest, total=False):
    max_tokens: Required[Annotated[int, Field(ge=1, le=2**31 - 1)]]
    stream: bool | None
    temperature: Temperature | None
    top_p: Share | None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None
    stop_sequences: list[str] | None
    metadata: dict[str, Any] | None


def _check(request: Request) -> None:
    for index, message in enumerate(request["messages"]):
        if isinstance(message["content"], list):
            _check_blocks(message["content"], f"messages[{index}].content")
    # Anthropic refuses an empty one, too. In OpenAI's APIs an empty `stop` is passed over.
    if "" in (request.get("stop_sequences") or ()):
        raise invalid("stop_sequences", "each has to hold a text")
    if isinstance(request.get("system"), list):
        _check_blocks(request["system"], "system")
    names = [
        check_function(tool, f"tools[{index}]", "input_schema")
        for index, tool in enumerate(request.get("tools") or ())
    ]
    for place, wanted in (
        ("output_config.format", (request.get("output_config") or {}).get("format")),
        ("output_format", request.get("output_format")),
    ):
        if wanted is not None:
            _check_format(wanted, place)
    if (choice := request.get("tool_choice")) is not None:
        kind = text_in(choice, "type", "tool_choice")
        if kind not in ("auto", "any", "tool", "none"):
            raise invalid("tool_choice.type", "'auto', 'any', 'tool' or 'none' is needed")
        if kind == "any" and not names:
            raise invalid("tool_choice", "it needs 'tools'")
        if kind == "tool" and text_in(choice, "name", "tool_choice") not in names:
            known = ", ".join(names) or "none"
            raise invalid("tool_choice.name", f"there is no such tool (tools: {known})")


def _check_format(wanted: object, where: str) -> None:
    if not isinstance(wanted, dict):
        raise invalid(where, "an object is needed")
    if text_in(wanted, "type", where) != "json_schema":
        raise invalid(f"{where}.type", "'json_schema' is needed")
    object_in(wanted, "schema", where)


def _check_blocks(blocks: Sequence[dict[str, Any]], where: str) -> None:
    for index, block in enumerate(blocks):
        at = f"{where}[{index}]"
        kind = text_in(block, "type", at)
        if kind == "text":
            text_in(block, "text", at)
        elif kind == "image":
            text_in(object_in(block, "source", at), "type", f"{at}.source")
        elif kind == "tool_use":
            text_in(block, "name", at)
            object_in(block, "input", at)
        elif kind == "tool_result":
            text_in(block, "tool_use_id", at)


_TALK: dict[str, Any] = {"items": "messages", "content": "system", "mends": (history.mend,)}
REQUEST = Shape(MessagesRequest, _check, **_TALK)
COUNT_REQUEST = Shape(CountRequest, _check, **_TALK)

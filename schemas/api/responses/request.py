"""``POST /v1/responses``."""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.responses import history
from schemas.api.shape import (
    Account,
    ContextEdits,
    Model,
    Request,
    Shape,
    Share,
    Temperature,
    invalid,
    missing,
    text_in,
)
from schemas.api.tools import (
    check_arguments,
    check_choice,
    check_format,
    check_parts,
    check_stop,
    check_tools,
)


class Text(TypedDict, total=False):
    format: dict[str, Any] | None
    verbosity: str | None


class Reasoning(TypedDict, total=False):
    effort: str | None
    summary: str | None


class ResponseRequest(Account, total=False):
    """`max_tool_calls`: of tools that run at the server."""

    model: Model | None
    input: Required[str | Annotated[list[dict[str, Any]], Field(min_length=1)]]
    instructions: str | None
    stream: bool | None
    max_tool_calls: Annotated[int, Field(ge=0, le=2**31 - 1)] | None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    temperature: Temperature | None
    top_p: Share | None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    text: Text | None
    reasoning: Reasoning | None
    previous_response_id: str | None
    background: bool | None
    truncation: str | None
    include: list[str] | None
    user: str | None
    context_management: ContextEdits | None
    conversation: str | dict[str, Any] | None
    prompt: dict[str, Any] | None
    stream_options: dict[str, Any] | None
    verbosity: str | None


def _check(request: Request) -> None:
    if isinstance(request["input"], list):
        for index, item in enumerate(request["input"]):
            _check_item(item, f"input[{index}]")
    check_stop(request)
    names = check_tools(request.get("tools") or (), flat=True)
    check_choice(request.get("tool_choice"), names, flat=True)
    text = request.get("text") or {}
    if text.get("format") is not None:
        check_format(text["format"], "text.format", flat=True)


def _check_item(item: dict[str, Any], where: str) -> None:
    """Checks messages (their type is optional), calls and results; other kinds of items pass."""
    kind, role, content = item.get("type"), item.get("role"), item.get("content")
    if kind is None and role is None:
        raise missing(f"{where}.type")
    if not isinstance(kind, str | None):
        raise invalid(f"{where}.type", "a string is needed")
    if kind in ("function_call", "function_call_output"):
        _check_call(item, where)
    if kind == "reasoning":
        _check_thought(item, where)
    if kind not in (None, "message"):
        return
    if role not in ("user", "assistant", "system", "developer"):
        raise invalid(f"{where}.role", "'user', 'assistant', 'system' or 'developer' is needed")
    if isinstance(content, list):
        check_parts(content, f"{where}.content", history.text_type(item))
    elif not isinstance(content, str):
        raise invalid(f"{where}.content", "a string or a list of parts is needed")


def _check_thought(item: dict[str, Any], where: str) -> None:
    for name in ("summary", "content"):
        parts = item.get(name)
        if not isinstance(parts, list | None):
            raise invalid(f"{where}.{name}", "a list of parts is needed")
        for index, part in enumerate(parts or ()):
            if not isinstance(part, dict):
                raise invalid(f"{where}.{name}[{index}]", "an object is needed")


def _check_call(item: dict[str, Any], where: str) -> None:
    if not isinstance(item.get("call_id"), str | None):
        raise invalid(f"{where}.call_id", "a string is needed")
    if item["type"] == "function_call":
        text_in(item, "name", where)
        check_arguments(item, where)
        text_in(item, "call_id", where)
        return
    output = item.get("output")
    if output is None:
        raise missing(f"{where}.output")
    if isinstance(output, list):
        check_parts(output, f"{where}.output", history.TOLD)
    elif not isinstance(output, str):
        raise invalid(f"{where}.output", "a string or a list of parts is needed")
    text_in(item, "call_id", where)


REQUEST = Shape(
    ResponseRequest, _check, items="input", mends=(plain.without_empty_stops, history.mend)
)

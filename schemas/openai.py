"""The fields of OpenAI's requests that the fabric acts on or checks; all others pass untouched.

Types and bounds: OpenAI's API reference. Engines differ in what they do with a bad value (a 500, a
silent default), so the edge refuses it once for all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import InvalidRequest

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Message(_Open):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(_Open):
    include_usage: bool | None = None


class ChatRequest(_Open):
    """``POST /v1/chat/completions``."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=-1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=-1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None


def refusal(fault: ValidationError) -> InvalidRequest:
    """The first fault in OpenAI's words: the message says what is wrong, `param` where."""
    errors = fault.errors(include_url=False, include_input=False)
    first = min(errors, key=lambda error: len(error["loc"]))
    param = _path(first["loc"])
    if first["type"] == "missing":
        return InvalidRequest(f"Missing required parameter: {param!r}.", param=param)
    return InvalidRequest(f"Invalid value for {param!r}: {first['msg']}.", param=param)


def _path(loc: tuple[int | str, ...]) -> str:
    """``messages[0].role``; names of union members that pydantic adds are left out."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and step not in ("str", "int", "float", "bool"):
            path += f".{step}" if path else step
    return path or "body"

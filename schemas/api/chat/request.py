"""``POST /v1/chat/completions``."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal, Required, get_args

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from schemas.api import plain
from schemas.api.chat import history
from schemas.api.shape import (
    Account,
    Bias,
    Choices,
    Model,
    Penalty,
    Request,
    Seed,
    Shape,
    Share,
    Temperature,
    Tokens,
    check_bias,
    invalid,
    missing,
    object_in,
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

OpenAIsRole = Literal["system", "developer", "user", "assistant", "tool", "function"]
Role = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""Chat templates know roles of their own beside OpenAI's (``ipython``, ``observation``,
``control``, or any that their maker chose), or refuse them."""
_ROLES = get_args(OpenAIsRole)
_LIKE = 0.75
"""From how alike on a role is one of OpenAI's, mistyped."""


class Message(TypedDict, total=False):
    role: Required[Role]
    content: str | list[dict[str, Any]] | None
    name: str | None
    tool_calls: list[dict[str, Any]] | None


class StreamOptions(TypedDict, total=False):
    include_usage: bool | None


class ChatRequest(Account, total=False):
    model: Model | None
    messages: Required[Annotated[list[Message], Field(min_length=1)]]
    stream: bool | None
    stream_options: StreamOptions | None
    max_tokens: Tokens | None
    max_completion_tokens: Tokens | None
    temperature: Temperature | None
    top_p: Share | None
    n: Choices | None
    seed: Seed | None
    stop: str | list[str] | None
    presence_penalty: Penalty | None
    frequency_penalty: Penalty | None
    logprobs: bool | None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None
    logit_bias: Bias | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: dict[str, Any] | None
    modalities: list[str] | None
    user: str | None
    audio: dict[str, Any] | None
    functions: list[dict[str, Any]] | None
    function_call: str | dict[str, Any] | None
    prediction: dict[str, Any] | None
    reasoning_effort: str | None
    verbosity: str | None
    web_search_options: dict[str, Any] | None


class UsualMessage(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class UsualChat(TypedDict, total=False):
    """What most chats are: texts, and few fields, none of which has to be held against another. A
    message has nothing else, as it could be a part of a call."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    model: Model
    messages: Required[Annotated[list[UsualMessage], Field(min_length=1)]]
    stream: bool
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)]
    temperature: Temperature
    top_p: Share
    seed: Seed
    presence_penalty: Penalty
    frequency_penalty: Penalty
    user: str


_LIMITS = ("max_tokens", "max_completion_tokens")
_RARE = frozenset({"tools", "tool_choice", "response_format", "top_logprobs", "logit_bias", "stop"})
"""Most chats have none of these fields, and skip their checks."""


def _check(chat: Request) -> None:
    for index, message in enumerate(chat["messages"]):
        content = message.get("content")
        if isinstance(content, list):
            check_parts(content, f"messages[{index}].content", "text")
        elif content is None and not (message["role"] == "assistant" and message.get("tool_calls")):
            raise missing(f"messages[{index}].content")
        elif message["role"] == "function":
            raise invalid(f"messages[{index}].role", "'tool' is needed")
        if message.get("tool_calls"):
            _check_calls(message["tool_calls"], f"messages[{index}].tool_calls")
        if message["role"] not in _ROLES:
            _check_role(message["role"], f"messages[{index}].role")
        if message["role"] == "tool":
            _check_id(message, "tool_call_id", f"messages[{index}]")
    if chat.keys() & _RARE:
        _check_rare(chat)
    if not chat.keys().isdisjoint(_LIMITS):
        _check_limits(chat)


def _check_role(role: str, where: str) -> None:
    if meant := get_close_matches(role.lower(), _ROLES, 1, _LIKE):
        raise invalid(where, f"no such role; did you mean {meant[0]!r}?")


def _check_rare(chat: Request) -> None:
    check_stop(chat)
    names = check_tools(chat.get("tools") or ())
    check_choice(chat.get("tool_choice"), names)
    if (wanted := chat.get("response_format")) is not None:
        check_format(wanted, "response_format")
    check_bias(chat.get("logit_bias"))
    if chat.get("top_logprobs") and not chat.get("logprobs"):
        raise invalid("top_logprobs", "it needs 'logprobs' to be true")


def _check_limits(chat: Request) -> None:
    older, newer = (chat.get(name) for name in _LIMITS)
    for name, limit in zip(_LIMITS, (older, newer), strict=True):
        if limit == 0:
            raise invalid(name, "at least 1 is needed")
    if older is not None and newer is not None and older != newer:
        raise invalid("max_tokens", "'max_completion_tokens' says something else: send one of them")


def _check_calls(calls: list[dict[str, Any]], where: str) -> None:
    """Calls without an id pass: engines take them."""
    for index, call in enumerate(calls):
        at = f"{where}[{index}]"
        _check_id(call, "id", at)
        kind = text_in(call, "type", at)
        if kind == "function":
            function = object_in(call, "function", at)
            text_in(function, "name", f"{at}.function")
            check_arguments(function, f"{at}.function")


def _check_id(row: dict[str, Any], name: str, where: str) -> None:
    if row.get(name) is not None:
        text_in(row, name, where)


def _with_one_limit(chat: Request) -> bool:
    """Of two limits that differ, leave the newer one, which llama-server and vLLM go by; the older
    one, if the newer one says that there is none."""
    older, newer = (chat.get(name) for name in _LIMITS)
    if type(older) is not int or type(newer) is not int or older == newer or 0 in (older, newer):
        return False
    del chat[_LIMITS[0] if newer > 0 else _LIMITS[1]]
    return True


def _with_nested_schema(chat: Request) -> bool:
    """Put a schema beside its type, as llama-server's README and the responses API have it, where
    chats have it."""
    wanted = chat.get("response_format")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        return False
    if wanted.get("type") != "json_schema" or "json_schema" in wanted:
        return False
    inner = {name: value for name, value in wanted.items() if name != "type"}
    chat["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", **inner}}
    return True


REQUEST = Shape(
    ChatRequest,
    _check,
    items="messages",
    mends=(plain.without_empty_stops, history.mend, _with_one_limit, _with_nested_schema),
    usual=UsualChat,
)

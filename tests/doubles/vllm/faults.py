"""vLLM's refusals in its own words (0.32.0): pydantic's errors as Python dicts, and its checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.doubles.base import document, words_of

_TYPES: dict[str, tuple[type | tuple[type, ...], str, str]] = {
    "messages": (list, "list_type", "Input should be a valid list"),
    "temperature": (
        (int, float),
        "float_parsing",
        "Input should be a valid number, unable to parse string as a number",
    ),
    "max_tokens": (
        int,
        "int_parsing",
        "Input should be a valid integer, unable to parse string as an integer",
    ),
}
NEEDED = {
    "/v1/chat/completions": ("messages",),
    "/v1/messages": ("messages", "max_tokens"),
    "/v1/responses": ("input",),
    "/v1/embeddings": (),
    "/v1/completions": (),
}
_TEXTS = frozenset({"text", "refusal", "thinking", "input_text", "output_text"})
CHARS_PER_TOKEN = 33
"""The upper bound that it reckons with for its own tokenizer, in the recordings."""


@dataclass
class Refused(Exception):
    message: str
    kind: str = "BadRequestError"
    param: str | None = None
    status: int = 400
    anthropic: bool = False

    def response(self) -> web.Response:
        if self.anthropic:
            told = {"type": self.kind, "message": self.message}
            return document({"type": "error", "error": told}, self.status)
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        return document({"error": error}, self.status)


def validated(raw: bytes, path: str) -> dict[str, Any]:
    """What FastAPI and pydantic make of the body. Raises Refused."""
    try:
        found = json.loads(raw or b"{}")
    except json.JSONDecodeError as fault:
        where, why = f"body.{fault.pos}", fault.msg
        error = {"type": "json_invalid", "loc": where, "msg": "JSON decode error"}
        _refuse([{**error, "input": "<dict of 0 items>", "ctx": {"error": why}}])
    items = f"<dict of {len(found)} items>"
    missing = [name for name in NEEDED.get(path, ()) if name not in found]
    errors = [
        {"type": "missing", "loc": f"body.{name}", "msg": "Field required", "input": items}
        for name in missing
    ]
    for name, (kind, code, message) in _TYPES.items():
        value = found.get(name)
        if value is not None and not isinstance(value, kind):
            errors.append({"type": code, "loc": f"body.{name}", "msg": message, "input": value})
    for index, message in enumerate(found.get("messages") or () if not errors else ()):
        errors += _bad_content(index, message)
    if errors:
        _refuse(errors)
    return dict(found)


def _bad_content(index: int, message: Any) -> list[dict[str, Any]]:
    """A union of message classes complains once for each of them."""
    content = message.get("content")
    if content is None or isinstance(content, str | list):
        return []
    said, shown = [], str(content)
    for name in ("Developer", "System", "User"):
        where = f"body.messages.{index}.ChatCompletion{name}MessageParam"
        what = {"type": "string_type", "loc": f"{where}.content"}
        said.append({**what, "msg": "Input should be a valid string", "input": shown})
        literal = {"type": "literal_error", "loc": f"{where}.role"}
        said.append({**literal, "msg": f"Input should be '{name.lower()}'", "input": "user"})
    return said


def _refuse(errors: list[dict[str, Any]]) -> None:
    count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}"
    lines = "".join(f"\n  {error}" for error in errors)
    raise Refused(f"{count}:{lines}", "Bad Request", errors[0]["loc"])


def check_lengths(asked: dict[str, Any], size: int, tokens: int, context: int) -> None:
    """`size`: characters of the rendered prompt."""
    limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
    bound = context * CHARS_PER_TOKEN
    told = f"This model's maximum context length is {context} tokens. However, "
    if limit is not None and limit < 1:
        end = f"(parameter=max_tokens, value={limit})"
        raise Refused(f"max_tokens must be at least 1, got {limit}. {end}", param="max_tokens")
    if limit is not None and limit > context:
        why = f"max_tokens={limit} cannot be greater than max_model_len={context}."
        end = f"Please request fewer output tokens. (parameter=max_tokens, value={limit})"
        raise Refused(f"{why} {end}", param="max_tokens")
    if size > bound:
        why = f"your prompt contains {size} characters (more than {bound} characters, which"
        end = f"is the upper bound for {context} input tokens). Please reduce the length of the"
        end = f"{end} input prompt. (parameter=input_text, value={size})"
        raise Refused(f"{told}{why} {end}", param="input_text")
    if tokens + (limit or 1) > context:
        why = f"you requested {limit or 1} output tokens and your prompt contains at least {tokens}"
        end = "input tokens. Please reduce the length of the input prompt."
        end = f"{end} (parameter=input_tokens, value={tokens})"
        raise Refused(f"{told}{why} {end}", param="input_tokens")


def check_chat(asked: dict[str, Any], model: str, parser: bool, senses: tuple[str, ...]) -> None:
    if not asked["messages"]:
        why = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise Refused(why)
    for message in asked["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            _check_part(part, model, senses)
        for call in message.get("tool_calls") or ():
            _check_arguments(call["function"].get("arguments"))
    if asked.get("tools") and not parser:
        _without_parser(asked.get("tool_choice") or "auto")
    if asked.get("continue_final_message") and asked.get("add_generation_prompt", True):
        both = "`continue_final_message` and `add_generation_prompt`"
        raise Refused(f"Cannot set both {both} to True.")


def check_items(asked: dict[str, Any]) -> None:
    """Of a response's input: it becomes a chat's messages."""
    given = asked["input"]
    for item in given if isinstance(given, list) else ():
        if item.get("type") == "function_call":
            if not isinstance(item.get("arguments"), str):
                raise Refused("1 validation error:\n  Input should be a valid string")
            _check_arguments(item["arguments"])
        content = item.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") not in _TEXTS:
                raise Refused(f"Unknown part type: {part.get('type')}")


def check_blocks(asked: dict[str, Any]) -> None:
    """Of Anthropic's messages: pydantic takes only a dict for a call's input."""
    for message in asked["messages"]:
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            if not isinstance(block.get("input"), dict | None):
                raise Refused("1 validation error:\n  Input should be a valid dictionary")


def _check_arguments(text: Any) -> None:
    """It parses them for the template, which goes through them as a mapping."""
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as fault:
        raise Refused(str(fault)) from None
    if not isinstance(found, dict):
        raise Refused("Can only get item pairs from a mapping.")


def _check_part(part: dict[str, Any], model: str, senses: tuple[str, ...]) -> None:
    kinds = {
        "image_url": ("vision", "image", "cannot identify image file"),
        "input_audio": ("audio", "audio", "Failed to load audio"),
    }
    if part.get("type") in _TEXTS:
        return
    if part.get("type") not in kinds:
        raise Refused(f"Unknown part type: {part.get('type')}")
    sense, name, broken = kinds[part["type"]]
    if not senses:
        raise Refused(f"{model} is not a multimodal model")
    if sense not in senses:
        raise Refused(f"At most 0 {name}(s) may be provided in one prompt.", param=name)
    told = str(part)
    if told.endswith("iVBORw0KGgo='}}") or "'data': 'UklGRg=='" in told:
        raise Refused(broken)


def _without_parser(choice: Any) -> None:
    if choice == "none":
        return
    if choice == "auto":
        flags = "--enable-auto-tool-choice and --tool-call-parser"
        raise Refused(f'"auto" tool choice requires {flags} to be set')
    named = isinstance(choice, dict)
    shown = f'function "{choice["function"]["name"]}"' if named else f'"{choice}"'
    raise Refused(f"tool_choice={shown} requires --tool-call-parser to be set")


def check_sampling(asked: dict[str, Any]) -> None:
    n = asked.get("n") or 1
    if n > 1 and asked.get("temperature") == 0:
        raise Refused(f"n must be 1 when using greedy sampling, got {n}.")
    form = asked.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema") or {}
    kinds = ("object", "array", "string", "integer", "number", "boolean", "null", None)
    if schema.get("type") not in kinds:
        raise Refused(f"Grammar error: Invalid type: {schema['type']}")


def rendered_size(messages: list[dict[str, Any]]) -> int:
    """Characters: the template puts 50 around a lone message."""
    parts = [message.get("content") for message in messages]
    return 50 + sum(len(part) for part in parts if isinstance(part, str))


def text_of(messages: list[dict[str, Any]]) -> str:
    return " ".join(word for message in messages for word in words_of(message.get("content")))


def prompt_tokens(asked: dict[str, Any], text: str) -> int:
    """A word is a token. The template puts 14 around them, and more if it closes an answer."""
    last = (asked.get("messages") or [{}])[-1]
    closed = last.get("role") == "assistant" and not asked.get("continue_final_message")
    return len(text.split()) + 14 + 5 * closed


def begun(asked: dict[str, Any]) -> str:
    """The text that the answer is to go on from."""
    if asked.get("continue_final_message"):
        return text_of(asked["messages"][-1:])
    prompt = asked.get("prompt")
    return begun_text(prompt) if isinstance(prompt, str) else ""


def begun_text(prompt: str) -> str:
    """The beginning of a prompt that stands at its end once more, with no space before it: there an
    answer that repeats the prompt was begun."""
    ends = (at for at in range((len(prompt) + 1) // 2, len(prompt)) if not prompt[at - 1].isspace())
    return next((prompt[at:] for at in ends if prompt.startswith(prompt[at:])), "")

"""Requests with tools that llama-server cannot offer to the model, or cannot force. Pure.

Measured on b11549: llama-server silently drops the tools if the chat template knows none. If the
template knows tools, a required call is forced only if llama-server knows the template's form of
calls. So the system message describes the functions, the history's calls and results are written
as text in the form of Hermes and Qwen, and a schema of the answer, which llama-server enforces,
forces a required call. `parse` reads the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from workers.engines.llamacpp import faults
from workers.engines.openai.refusal import Refusal

Entry = dict[str, Any]

SIGN = b'"tool'
"""Each request with tools, even only in its history, contains this."""
OPEN, CLOSE = "<tool_call>", "</tool_call>"

_OURS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
_OF_TEXT = frozenset({"logprobs", "top_logprobs", "stop"})
"""Fields about the text of an answer, which mean nothing for a call."""
_OTHER_FORMS = "grammar", "json_schema"
_NONE: Entry = {"type": "object", "properties": {}}
_POINTER = re.compile(rb'"\$ref":"#(?=["/])')
_COMBINED = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf"})

_OFFER = """You may call functions. Functions:
{functions}
To call one, answer with only:
<tool_call>
{{"name": NAME, "arguments": ARGUMENTS}}
</tool_call>"""
_EITHER = """You may call functions. Functions:
{functions}
To call one, answer with only:
{{"name": NAME, "arguments": ARGUMENTS}}"""
_ORDER = """Call one of these functions: {names}. Functions:
{functions}
Answer with only the call:
{{"name": NAME, "arguments": ARGUMENTS}}"""
_FORMS = {"auto": _OFFER, "either": _EITHER, "required": _ORDER}


@dataclass(frozen=True, slots=True)
class Expected:
    """The form of the calls, and the functions that may be called. `form`: ``written`` between tags
    if the model chooses to call, ``forced`` as the JSON of one call, ``either`` as that JSON or as
    other JSON. `named`: the client has named the one function."""

    form: Literal["written", "forced", "either"]
    names: tuple[str, ...]
    named: bool = False


Prepare = Callable[[Entry, bool], tuple[Entry, Expected | None]]


def prepare(request: Entry, knows: bool) -> tuple[Entry, Expected | None]:
    """The request to send, and the calls to read from its answer; None if there are none to read.

    `knows`: the chat template can write tools, calls and results. Raises Refusal.
    """
    mode, chosen, named = _choice(request)
    structured = _structured(request) if mode == "auto" else None
    mode = mode if structured is None else "either"
    if knows and mode in ("auto", "none"):  # llama-server does this well by itself
        return request, None
    # With "none" the template still describes the tools; the schema alone forces the call.
    sent = {**request, "tool_choice": "none"} if knows else _described(request, mode, chosen)
    sent.pop("parallel_tool_calls", None)
    names = tuple(each["name"] for each in chosen)
    if mode == "required":
        return _forced(sent, chosen), Expected("forced", names, named)
    if mode == "none":
        return sent, None
    if mode == "auto":
        return sent, Expected("written", names)
    return {**sent, "response_format": _shape(chosen, structured)}, Expected("either", names)


def _choice(request: Mapping[str, Any]) -> tuple[str, list[Entry], bool]:
    """none, auto or required; the functions that may be called; whether the client named one."""
    functions = _functions(request)
    choice = request.get("tool_choice") or "auto"
    if not functions:
        return "none", [], False
    if isinstance(choice, str):
        return choice, functions, False
    kind = choice.get("type")
    if kind == "function":
        return "required", _among(functions, [choice["function"]]), True
    allowed = choice.get("allowed_tools")
    if kind != "allowed_tools" or not isinstance(allowed, dict):
        why = f"'tool_choice' of type {kind!r} is not known here."
        raise Refusal(why, param="tool_choice", code="unsupported_parameter")
    chosen = _among(functions, _functions(allowed))
    mode = "required" if allowed.get("mode") == "required" else "auto"
    return (mode if chosen else "none"), chosen, False


def _functions(holder: Mapping[str, Any]) -> list[Entry]:
    """The functions. Other tools were refused before, unless the client is lenient."""
    return [
        tool.get("function") or tool
        for tool in holder.get("tools") or ()
        if isinstance(tool, dict) and tool.get("type") == "function"
    ]


def _among(functions: Iterable[Entry], wanted: Iterable[Entry]) -> list[Entry]:
    names = [each.get("name") for each in wanted]
    return [each for each in functions if each["name"] in names]


# Forced calls.


def _structured(request: Mapping[str, Any]) -> Entry | None:
    """The schema of the answer's text, if it must be JSON."""
    asked = request.get("response_format") or {}
    if asked.get("type") == "json_object":
        return asked.get("schema") or {"type": "object"}
    return asked["json_schema"]["schema"] if asked.get("type") == "json_schema" else None


def _forced(sent: Entry, functions: Iterable[Entry]) -> Entry:
    for name in _OTHER_FORMS:
        if sent.get(name):
            why = f"{name!r} cannot hold for a function call, which 'tool_choice' asks for."
            raise Refusal(why, param=name)
    kept = {name: value for name, value in sent.items() if name not in _OF_TEXT}
    return {**kept, "response_format": _shape(functions)}


def _shape(functions: Iterable[Entry], beside: Entry | None = None) -> Entry:
    """A schema for a call of one of the functions, or for an answer of the schema `beside`. Each
    schema gets its own place in `$defs`, and its references are moved there (`_moved`)."""
    schemas: list[Entry] = []
    ways: list[Entry] = []
    for function in functions:
        ways.append(_call(str(function["name"]), len(schemas)))
        schemas.append(_arguments(function.get("parameters")))
    if beside is not None:
        ways.append({"$ref": f"#/$defs/{len(schemas)}"})
        schemas.append(beside)
    defs = {str(place): _moved(schema, place) for place, schema in enumerate(schemas)}
    shape = {"anyOf": ways, "$defs": defs}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": shape}}


def _call(name: str, place: int) -> Entry:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{place}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _arguments(parameters: Entry | None) -> Entry:
    """The schema of the arguments, which are an object even if the schema does not say so."""
    if not parameters:
        return _NONE
    return parameters if _COMBINED & parameters.keys() else {"type": "object", **parameters}


def _moved(schema: Entry, place: int) -> Entry:
    """Pointers move along; names (`$anchor`) are found wherever they are. The bytes cannot match
    inside a text, because JSON escapes the quotes there."""
    moved: Entry = orjson.loads(_POINTER.sub(rb"\g<0>/$defs/%d" % place, orjson.dumps(schema)))
    return moved


@contextmanager
def naming_tools() -> Iterator[None]:
    """Name the tools if the server refuses a schema: a text's own schema was checked before."""
    try:
        yield
    except orjson.JSONEncodeError:  # orjson reads 1,024 levels, but writes only 254
        raise Refusal("The tools are nested too deeply.", param="tools") from None
    except Refusal as refusal:
        if faults.BAD_SCHEMA in refusal.message:
            refusal.param = "tools"
        raise


# Tools as text.


def _described(request: Entry, mode: str, functions: Sequence[Entry]) -> Entry:
    sent = {name: value for name, value in request.items() if name not in _OURS}
    messages = list(written(request["messages"]))
    if mode != "none":
        lines = "\n".join(orjson.dumps(_about(each)).decode() for each in functions)
        names = ", ".join(each["name"] for each in functions)
        messages = _announced(messages, _FORMS[mode].format(functions=lines, names=names))
    return {**sent, "messages": messages}


def _about(function: Entry) -> Entry:
    return {name: value for name, value in function.items() if name != "strict"}


def _announced(messages: list[Entry], text: str) -> list[Entry]:
    """The messages with `text` in the first system message, or in a new one."""
    for place, message in enumerate(messages):
        if message["role"] in ("system", "developer"):
            content = _joined([*_parts(message.get("content")), _text(f"\n\n{text}")])
            return [*messages[:place], {**message, "content": content}, *messages[place + 1 :]]
    return [{"role": "system", "content": text}, *messages]


def written(messages: Iterable[Entry]) -> Iterator[Entry]:
    """The messages with calls as the assistant's text; results in a row become one message."""
    results: list[Entry] = []
    for message in messages:
        if message.get("role") == "tool":
            within = [_text("<tool_response>\n"), *_parts(message.get("content"))]
            results += [_text("\n")] if results else []
            results += [*within, _text("\n</tool_response>")]
            continue
        if results:
            yield {"role": "user", "content": _joined(results)}
            results = []
        yield _called(message) if message.get("tool_calls") else message
    if results:
        yield {"role": "user", "content": _joined(results)}


def _called(message: Entry) -> Entry:
    kept = {name: value for name, value in message.items() if name != "tool_calls"}
    before = _parts(message.get("content"))
    calls = "\n".join(_as_text(call.get("function") or {}) for call in message["tool_calls"])
    return {**kept, "content": _joined([*before, _text(f"\n{calls}" if before else calls)])}


def _as_text(function: Mapping[str, Any]) -> str:
    # The arguments are JSON as a text. A text that is no JSON becomes a string of JSON.
    name, arguments = orjson.dumps(function.get("name")).decode(), function.get("arguments")
    try:
        orjson.loads(arguments or "")
    except orjson.JSONDecodeError:
        arguments = orjson.dumps(arguments or {}).decode()
    return f'{OPEN}\n{{"name": {name}, "arguments": {arguments}}}\n{CLOSE}'


def _parts(content: object) -> list[Entry]:
    if isinstance(content, list):
        return content
    return [_text(content)] if isinstance(content, str) and content else []


def _text(text: str) -> Entry:
    return {"type": "text", "text": text}


def _joined(parts: list[Entry]) -> str | list[Entry]:
    """One text, unless a part is something else, such as a picture."""
    if all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts

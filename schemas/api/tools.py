"""Rules that several endpoints share: tools, tool choice, answer formats, parts and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.api import plain, prompts
from schemas.api.json_schema import check_schema
from schemas.api.shape import invalid, missing, object_in, text_in
from schemas.errors import InvalidRequest

FORMATS = ("text", "json_object", "json_schema", "structural_tag")
"""The last one is vLLM's own."""
_NAME_LIMIT = 256


def check_tools(tools: Sequence[Mapping[str, Any]], *, flat: bool = False) -> list[str]:
    """The names of the functions. `flat`: the responses API has no ``function`` around them."""
    names = []
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        kind = text_in(tool, "type", where)
        if kind != "function":
            continue  # the engine's card says whether the engine can run it
        function = tool if flat else object_in(tool, "function", where)
        names.append(check_function(function, where if flat else f"{where}.function", "parameters"))
    return names


def check_function(function: Mapping[str, Any], where: str, schema: str) -> str:
    """The function's name. `schema`: the field that describes the arguments."""
    name = text_in(function, "name", where)
    if not 0 < len(name) <= _NAME_LIMIT:
        raise invalid(f"{where}.name", f"1 to {_NAME_LIMIT} characters are needed")
    if (arguments := function.get(schema)) is not None:
        if not isinstance(arguments, dict):
            raise invalid(f"{where}.{schema}", "a JSON schema is needed, which is an object")
        check_schema(arguments, f"{where}.{schema}")
    if not isinstance(function.get("description"), str | None):
        raise invalid(f"{where}.description", "a string is needed")
    return name


def check_choice(choice: object, names: Sequence[str], *, flat: bool = False) -> None:
    """Checks `tool_choice`: a word, or an object that names one of the tools."""
    if choice in (None, "none", "auto"):
        return
    if isinstance(choice, dict):
        kind = text_in(choice, "type", "tool_choice")
        if kind == "allowed_tools" and not isinstance(choice.get("tools"), list | None):
            raise invalid("tool_choice.tools", "a list is needed")
        if kind != "function":
            return
        where = "tool_choice" if flat else "tool_choice.function"
        named = choice if flat else object_in(choice, "function", "tool_choice")
        if text_in(named, "name", where) not in names:
            known = ", ".join(names) or "none"
            raise invalid(f"{where}.name", f"there is no such tool (tools: {known})")
    elif choice != "required":
        raise invalid("tool_choice", "'none', 'auto', 'required' or an object is needed")
    elif not names:
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")


def check_format(wanted: Mapping[str, Any], where: str, *, flat: bool = False) -> None:
    """Checks `response_format`, or the responses API's ``text.format`` (`flat`)."""
    kind = text_in(wanted, "type", where)
    if kind not in FORMATS:
        raise invalid(f"{where}.type", f"one of {', '.join(FORMATS[:3])} is needed")
    if kind != "json_schema":
        return
    inner = wanted if flat else object_in(wanted, "json_schema", where)
    place = where if flat else f"{where}.json_schema"
    object_in(inner, "schema", place)
    if not isinstance(inner.get("name"), str | None):
        raise invalid(f"{place}.name", "a string is needed")
    if not isinstance(inner.get("strict"), bool | None):
        raise invalid(f"{place}.strict", "true or false is needed")


def check_stop(request: Mapping[str, Any]) -> None:
    if plain.has_empty_stops(request):
        raise invalid("stop", "an empty text would end the answer before it begins")


def check_arguments(call: Mapping[str, Any], where: str) -> None:
    """Checks the arguments of an earlier call."""
    given = call.get("arguments")
    if plain.arguments(given) != given:
        raise invalid(f"{where}.arguments", "a JSON object is needed, as a string")


def check_parts(parts: Sequence[Any], where: str, text: str) -> None:
    """Checks parts of a message: a part of a known kind needs its content. Unknown kinds pass.
    `text`: the one kind of parts with text."""
    if not parts:
        raise invalid(where, "it must not be empty")
    for index, part in enumerate(parts):
        at = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise invalid(at, "an object is needed")
        kind = text_in(part, "type", at)
        if kind == text:
            text_in(part, "text", at)
        elif kind in plain.TEXTS or kind in plain.BESIDE:
            raise invalid(f"{at}.type", f"{text!r} is needed")
        elif kind == "image_url":
            image = part.get("image_url")
            if not isinstance(image, str):
                text_in(object_in(part, "image_url", at), "url", f"{at}.image_url")
        elif kind == "input_audio":
            sound = object_in(part, "input_audio", at)
            for name in ("data", "format"):
                text_in(sound, name, f"{at}.input_audio")


def check_inputs(found: Any, where: str, most: int = 0) -> None:
    """Checks a prompt, or a list of prompts, in any form of `schemas.api.prompts`. `most`: how many
    there may be; 0 for any number."""
    kinds = set(map(type, found)) if isinstance(found, list) else None
    if kinds is None or int in kinds:  # a list with an integer in it is one prompt of token ids
        _check_prompt(found, where)
    elif not found:
        raise invalid(where, "it must not be empty")
    elif most and len(found) > most:
        raise invalid(where, f"at most {most} are taken at once, and these are {len(found)}")
    elif kinds != {str}:
        for index, each in enumerate(found):
            _check_prompt(each, f"{where}[{index}]")


def _check_prompt(found: Any, where: str) -> None:
    """Checks one prompt."""
    if isinstance(found, str):
        return
    if isinstance(found, dict):
        _check_object(found, where)
    elif not isinstance(found, list):
        raise invalid(where, "a text, token ids, or a list of these are needed")
    elif not found:
        raise invalid(where, "it must not be empty")
    else:
        kinds = set(map(type, found))
        if int not in kinds or not kinds <= {int, str}:
            raise invalid(where, "token ids are needed")
        _check_tokens([each for each in found if not isinstance(each, str)], where)


def _check_object(found: dict[str, Any], where: str) -> None:
    """Checks llama-server's own form of a prompt."""
    text, data, place = found.get(prompts.TEXT), found.get(prompts.DATA), f"{where}.{prompts.TEXT}"
    if text is None:
        raise missing(place)
    if not isinstance(text, str | list):
        raise invalid(place, "a text is needed")
    _check_prompt(text, place)
    if data is None:
        return
    place = f"{where}.{prompts.DATA}"
    if not isinstance(data, list) or not all(isinstance(each, str) for each in data):
        raise invalid(place, "a list of pictures and recordings as base64 is needed")
    text_in(found, prompts.TEXT, where)


def _check_tokens(tokens: Sequence[int], where: str) -> None:
    """Engines cut ids to 32 bits. Only the engine knows the last id that its model has."""
    if min(tokens) < 0 or max(tokens) >= 2**31:
        raise invalid(where, "token ids are from 0 to the last one that the model has")

"""Makes requests plain: what asks for nothing is left out, and each thing is said in the one way
that every engine and provider takes. Pure.

A mend changes a request in place and returns whether it did. It runs before the request is checked,
so it leaves alone what has an unexpected type. Most mends run only for a request that fails its
check, so a plain request costs nothing. A plain request stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard, get_args

import orjson
from typing_extensions import get_type_hints, is_typeddict

from schemas.api import large_text, schema_tree
from schemas.api.piecewise import PIECE

Entry = dict[str, Any]
Mend = Callable[[Entry], bool]
Integers = Mapping[str, "Integers"]
"""The fields of an object that are integers, or objects with integers; an integer has no fields."""

_SCHEMAS = frozenset({"parameters", "input_schema", "schema"})
_OPAQUE = frozenset(
    {
        *_SCHEMAS,  # their words may be null, but their values mean something
        *("arguments", "input", "input_examples", "variables"),  # what tools and templates get
        *("metadata", "logit_bias"),
    }
)
"""Fields whose members are the client's own, so a null in them has a meaning. The `input` of a
request is a list of items, and that of a call is the client's own."""
TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})
"""Types of parts that hold a text."""
THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_text"})
CALL = "tool_use"
BESIDE = THOUGHTS | {CALL}
"""Types of parts of Anthropic's messages, and some clients': OpenAI's APIs have them elsewhere."""
_TOO_LARGE = 2.0**63
_AROUND = 54
"""Levels that a body may have around the arguments of a call. orjson writes 254 in all."""
_OWN_FORMAT = "structural_tag"
"""vLLM's `response_format` with schemas in fields of many names."""


def without_nulls(request: Entry, names: frozenset[str]) -> bool:
    """Take nulls out of the fields `names`, where null means that a field is absent. The content of
    a message stays, because OpenAI documents null there. Fields that only engines know stay, too.
    """
    changed = False
    for name in names.intersection(request):
        value = request[name]
        if value is None:
            del request[name]
            changed = True
        elif name == "input" or name not in _OPAQUE:
            changed |= _without_nulls(value)
    return changed


def _without_nulls(value: Any) -> bool:
    if isinstance(value, list):
        rows = [each for each in value if isinstance(each, list | dict)]
        return sum(map(_without_nulls, rows)) > 0  # any() would stop behind the first change
    if not isinstance(value, dict) or value.get("type") == _OWN_FORMAT:
        return False
    empty = [
        name
        for name, inner in value.items()
        if inner is None and not (name == "content" and "role" in value)
    ]
    for name in empty:
        del value[name]
    rest = [_without_nulls(inner) for name, inner in value.items() if name not in _OPAQUE]
    rest += [_schema_without_nulls(value, name) for name in _SCHEMAS.intersection(value)]
    return bool(empty) or any(rest)


def _schema_without_nulls(holder: Entry, name: str) -> bool:
    before = holder[name]
    holder[name] = schema_tree.without_nulls(before)
    return bool(holder[name] != before)


def integers(kind: type) -> Integers:
    """The integers among the fields of a TypedDict."""
    hints = get_type_hints(kind, include_extras=True)
    found = {name: _integers(hint) for name, hint in hints.items()}
    return {name: inner for name, inner in found.items() if inner is not None}


def _integers(hint: Any) -> Integers | None:
    """Of a union, the first member that is an integer, or an object with integers."""
    if hint is int:
        return {}
    if is_typeddict(hint):
        return integers(hint) or None
    members = map(_integers, get_args(hint))
    return next((each for each in members if each is not None), None)


def whole_numbers(request: Entry, fields: Integers) -> bool:
    """Make integers of whole numbers that are written as 4.0 or 1e2."""
    changed = False
    for name, inner in fields.items():
        value = request.get(name)
        if _is_whole(value):
            request[name] = int(value)
            changed = True
        elif isinstance(value, dict):
            changed |= whole_numbers(value, inner)
    return changed


def _is_whole(value: Any) -> TypeGuard[float]:
    """Whether it is a float without a fraction that orjson can write as an integer of 64 bits."""
    return type(value) is float and value.is_integer() and abs(value) < _TOO_LARGE


def token_ids(name: str) -> Mend:
    """The mend that makes integers of the token ids in the field `name`: a list of ids, or a list
    of such lists."""

    def mend(request: Entry) -> bool:
        given = request.get(name)
        if not isinstance(given, list):
            return False
        rows = [row for row in (given, *given) if isinstance(row, list)]
        return sum(map(_whole_items, rows)) > 0

    return mend


def _whole_items(row: list[Any]) -> bool:
    places = [at for at, each in enumerate(row) if _is_whole(each)]
    for at in places:
        row[at] = int(row[at])
    return bool(places)


def without_zero(name: str) -> Mend:
    """The mend that takes out the field `name` if it is 0. The specification allows 0 there, though
    it counts something of which there is at least one."""

    def mend(request: Entry) -> bool:
        none = type(request.get(name)) is int and request[name] == 0
        if none:
            del request[name]
        return none

    return mend


def without_empty_stops(request: Entry) -> bool:
    """Take empty texts out of `stop`: an engine would stop at once. If none is left, the field is
    as absent."""
    if not has_empty_stops(request):
        return False
    stop = request.pop("stop")
    if kept := [each for each in stop if each != ""]:
        request["stop"] = kept
    return True


def has_empty_stops(request: Mapping[str, Any]) -> bool:
    stop = request.get("stop")
    return stop in ("", []) or (isinstance(stop, list) and "" in stop)


def arguments(given: Any) -> str:
    """The arguments of an earlier call, as the text of a JSON object.

    Small models write what is no JSON, or no object, and the client sends that back. llama-server
    answers 500 to what is no JSON, many templates fail on what is no object (measured on b11549),
    and vLLM and Ollama parse the text, too. So anything else becomes the member `arguments` of an
    object, where the model can still see it. Nothing at all becomes an empty object.
    """
    if not isinstance(given, str):
        return orjson.dumps(_object_of(given)).decode()
    if len(given) > PIECE:
        return _large_arguments(given)
    try:
        found = orjson.loads(given or b"null")
        return given if isinstance(found, dict) else orjson.dumps(_object_of(found)).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it is no JSON, or nested too deeply
        return orjson.dumps(_object_of(given.strip() or None)).decode()


def _large_arguments(given: str) -> str:
    """The same of a text that orjson would take long for: what it stands for is not kept."""
    text = given.strip()
    if (sign := large_text.sign_of(text.encode(errors="surrogatepass"))) == "{":
        return given
    return f'{{"arguments":{text}}}' if sign else orjson.dumps(_object_of(text or None)).decode()


def _object_of(value: Any) -> Entry:
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"arguments": value}


def tool_input(given: Any) -> Entry:
    """The arguments of an earlier call as an object. A text that is nested so deeply that no body
    with it could be written stays a text, in the member `arguments`."""
    found: Entry = given if isinstance(given, dict) else orjson.loads(arguments(given))
    # orjson alone knows how deep is too deep, so it writes what a body would hold.
    around: Any = found
    for _ in range(_AROUND):
        around = [around]
    try:
        orjson.dumps(around)
    except orjson.JSONEncodeError:
        return {"arguments": given}
    return found


def replaced(request: Entry, name: str, change: Callable[[list[Entry]], Iterable[Entry]]) -> bool:
    """Change the list of objects in the field `name`. Returns whether it then differs."""
    rows = request.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return False
    changed = list(change(rows))
    if changed == rows:
        return False
    request[name] = changed
    return True


def texts(parts: Any, kind: str, left_out: frozenset[str] = frozenset()) -> Any:
    """Parts of a message, with all texts as parts of the type `kind`: OpenAI's APIs and Anthropic's
    name them differently, and engines take only their own. A refusal is a text, too."""
    if not isinstance(parts, list):
        return parts
    named = [part for part in parts if _type(part) not in left_out]
    return [_as_text(part, kind) for part in named]


def _as_text(part: Any, kind: str) -> Any:
    own = _type(part)
    text = part.get("refusal" if own == "refusal" else "text") if own in TEXTS else None
    if own == kind or not isinstance(text, str):
        return part
    return {"type": kind, "text": text}


def _type(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else ""

"""Turns a body's bytes into a checked request, and a fault into a helpful message.

Requests are TypedDicts and not models: the request stays as it was parsed, and checking a usual
chat takes 3 µs instead of 12 (measured).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator
from typing_extensions import TypedDict

from schemas.api import json_place, piecewise, plain
from schemas.api.plain import Mend
from schemas.api.prompts import own_form
from schemas.errors import InvalidRequest

Request = dict[str, Any]
Check = Callable[[Request], None]
"""Checks what types cannot express. Raises InvalidRequest."""
Fault = Callable[[bytes], InvalidRequest]
"""Says what is wrong with a body."""

Tokens = Annotated[int, Field(ge=-1, le=2**31 - 1)]
"""-1 means no limit at llama-server."""
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
Choices = Annotated[int, Field(ge=1, le=128)]
Model = Annotated[str, Field(max_length=1024)]
Bias = dict[str, Any] | list[Any]
"""By token id. llama-server also takes false for a token (never), or a list of pairs. `check_bias`
checks the numbers: pydantic would write down the faults of all."""

ContextEdits = list[dict[str, Any]] | dict[str, Any]
"""`context_management`: a list to OpenAI, an object to Anthropic. As a hint, either will do."""


class Account(TypedDict, total=False):
    """Fields that say how OpenAI keeps, bills and caches a request."""

    metadata: dict[str, Any] | None
    prompt_cache_key: str | None
    prompt_cache_options: dict[str, Any] | None
    prompt_cache_retention: str | None
    safety_identifier: str | None
    service_tier: str | None
    store: bool | None


MOST_ENTRIES = 16_384
"""Entries of a list or an object, and parts of all messages together."""
MOST_IDS = 2**20
"""Entries of a prompt, which may be the ids of its tokens."""
_LONG = 1024
"""Entries of a list that are checked at once (measured: 4 ms of messages)."""
_PROMPTS = frozenset({"prompt", "input", "content", "tokens"})
_BIAS = 100
_LONGEST = 64
"""Letters of a key that a message repeats."""

_QUOTE = b'"'
NULL = b"null"
_HIDDEN_QUOTE = b"\\u0022"
_ESCAPES = re.compile(rb"\\(u0022|.)", re.DOTALL)
_TAGS = frozenset({"str", "int", "float", "bool", "dict", "none"})


class Shape:
    """What the body of one endpoint must look like. `kind`: a TypedDict. `more`: names of further
    fields, which only pass through here. `items`: the field with the list of messages, whose
    content may hold pictures and recordings. `content`: a field that may hold such content
    directly. `prompts`: the field with prompts, which may be in forms of llama-server's own that
    hold such content. `mends`: what makes plain a request that fails its checks. `usual`: a
    TypedDict that is narrower than `kind`: what is so passes all checks, and is not looked at
    again (measured of a chat of six messages: 8 µs instead of 24)."""

    def __init__(
        self,
        kind: Any,
        *checks: Check,
        more: str = "",
        items: str = "",
        content: str = "",
        prompts: str = "",
        mends: Sequence[Mend] = (),
        usual: Any = None,
    ) -> None:
        self._validate = _validator(kind).validate_python
        self._usual = frozenset[str]() if usual is None else frozenset(usual.__annotations__)
        self._fits = None if usual is None else _validator(usual).isinstance_python
        self._checks = checks
        self._items, self._content, self._prompts = items, content, prompts
        self.names = frozenset(kind.__annotations__) | frozenset(more.split())
        whole: Mend = partial(plain.whole_numbers, fields=plain.integers(kind))
        self._mends = (whole, *mends)

    def read(self, body: bytes) -> tuple[Request, bytes]:
        """The checked request, and its bytes: `body` itself, unless it had to be made plain. Raises
        InvalidRequest, with `param` if one field is at fault."""
        found = parse(body)
        if len(body) > MOST_ENTRIES and isinstance(found, dict):  # each entry has a byte or more
            self._check_sizes(found)
        if self.is_usual(found):
            return found, body
        # Most bodies have no null, and to look for its bytes costs next to nothing.
        changed = self._without_nulls(found) if NULL in body else False
        changed = self.check(found) or changed
        return found, orjson.dumps(found) if changed else body

    def is_usual(self, found: Any) -> bool:
        """Whether a request is so plain that all checks are passed by that."""
        if self._fits is None or type(found) is not dict or not self._usual.issuperset(found):
            return False
        return self._fits(found, strict=True)

    def check_large(self, found: Any, has_null: bool) -> bool:
        """Checks a large body that is parsed already, and makes it plain in place. Returns whether
        it was changed. Runs in a thread, which others wait for no longer than for one of its calls
        of C code: so a long list is checked in pieces."""
        if isinstance(found, dict):
            self._check_sizes(found)
        changed = self._without_nulls(found) if has_null else False
        return self.check(found, in_pieces=True) or changed

    def _without_nulls(self, found: Any) -> bool:
        return isinstance(found, dict) and plain.without_nulls(found, self.names)

    def _check_sizes(self, found: Request) -> None:
        """Checks how many entries there are, before each of them is looked at: a million of them
        hold the event loop for seconds."""
        if len(found) > MOST_ENTRIES:
            why = f"The body has {len(found)} fields; at most {MOST_ENTRIES} are taken."
            raise InvalidRequest(why, param=None)
        for name, value in found.items():
            if isinstance(value, list | dict) and len(value) > MOST_ENTRIES:
                ids = isinstance(value, list) and type(value[0]) is int
                most = MOST_IDS if ids and name in _PROMPTS else MOST_ENTRIES
                if len(value) > most:
                    raise _too_many(name, most, len(value))
        items = found.get(self._items)
        rows = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
        parts = sum(len(each) for row in rows for each in row.values() if isinstance(each, list))
        if parts > MOST_ENTRIES:
            raise _too_many(self._items, MOST_ENTRIES, parts)

    def check(self, found: Any, *, in_pieces: bool = False) -> bool:
        """Checks a request that is parsed already, such as the fields of a form. One that fails is
        made plain in place, and checked again. Returns whether it was changed. `in_pieces`: long
        lists are."""
        try:
            self._check(found, in_pieces)
        except InvalidRequest:
            mends = self._mends if isinstance(found, dict) else ()
            if not sum(mend(found) for mend in mends):  # sum() runs all mends, and any() would not
                raise
        else:
            return False
        self._check(found, in_pieces)
        return True

    def _check(self, found: Any, in_pieces: bool) -> None:
        at, name = 0, ""
        try:
            if in_pieces and isinstance(found, dict):
                for piece, name, at in _pieces_of(found):  # noqa: B007 - for the fault
                    self._validate(piece, strict=True)
            else:
                self._validate(found, strict=True)
        except ValidationError as fault:
            raise refusal(fault, name, at) from None
        for check in self._checks:
            check(found)

    def is_text(self, request: Request) -> bool:
        """Whether a checked request holds only text, in a form that every engine takes. Runs for
        each request, so it must be cheap."""
        if self._prompts:
            return not own_form(request.get(self._prompts), self._prompts)
        items = request.get(self._items) if self._items else None
        if isinstance(items, list) and not all(map(_is_text, items)):
            return False
        return not self._content or _is_text({"content": request.get(self._content)})


def _pieces_of(found: Request) -> Iterator[tuple[Request, str, int]]:
    """Requests like `found` that have the pieces of its long lists, and nothing else that is long:
    (request, name of the list, number of its first entry)."""
    long = {name: each for name, each in found.items() if type(each) is list and len(each) > _LONG}
    short = {**found, **{name: each[:1] for name, each in long.items()}}
    yield short, "", 0
    for name, each in long.items():
        for at in range(0, len(each), _LONG):
            yield {**short, name: each[at : at + _LONG]}, name, at


def _too_many(name: str, most: int, found: int) -> InvalidRequest:
    return invalid(name, f"at most {most} entries are taken at once, and these are {found}")


def _is_text(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    if not isinstance(content, list):
        return "output" not in item  # the result of a call may hold pictures, too
    return all(isinstance(part, dict) and part.get("type") == "text" for part in content)


def _validator(kind: Any) -> SchemaValidator:
    found = TypeAdapter(kind).core_schema
    _stop_at_first_fault(found)
    return SchemaValidator(found)


def _stop_at_first_fault(found: Any) -> None:
    """Changes a schema of pydantic's core: a list ends at its first faulty item. Else 100,000 of
    them (0.2 MB) take 0.4 to 3 s (measured), in which the ingress does nothing else."""
    if isinstance(found, dict):
        if found.get("type") == "list":
            found["fail_fast"] = True
        found = tuple(found.values())
    if isinstance(found, list | tuple):
        for each in found:
            _stop_at_first_fault(each)


def parse(body: bytes) -> Any:
    """Strict JSON: no NaN, no bad UTF-8, no duplicate keys, no depth that cannot be written again.

    Parsers disagree on which value of a duplicate key counts, so the edge might check another
    value than the engine uses. To find duplicates, the parsed value is written again: it then has
    fewer quotes than the body (measured for 1 kB: 3 µs; a parser that sees the pairs takes 25 µs).
    Raises InvalidRequest.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise _no_json(body, fault) from None
    check_written(body, found)
    return found


def check_written(body: bytes, found: Any) -> None:
    """Raises InvalidRequest for a body that `found` stands for, if it cannot be written again."""
    if (fault := unwritten(body, found)) is not None:
        raise fault(body)


def unwritten(piece: bytes, found: Any, around: int = 0) -> Fault | None:
    """What is wrong with a body because of a piece of it that `found` stands for: it has a key
    twice, or, with those that are `around` it, more levels than can be written again."""
    for _ in range(around):
        found = [found]
    try:
        again = orjson.dumps(found)
    except TypeError:
        return too_deep
    quotes = piece.count(_QUOTE)
    if _HIDDEN_QUOTE in piece:  # a quote written as \u0022 comes back as \"
        quotes += _ESCAPES.findall(piece).count(_HIDDEN_QUOTE[1:])
    return None if again.count(_QUOTE) == quotes else repeated


def too_deep(body: bytes) -> InvalidRequest:
    place = json_place.first_deeper(_text(body), piecewise.DEEPEST)
    return InvalidRequest("The body is nested too deeply.", param=place)


def repeated(body: bytes) -> InvalidRequest:
    place = json_place.first_repeated(_text(body))
    return InvalidRequest("The body has an object with duplicate keys.", param=place)


def _no_json(body: bytes, fault: orjson.JSONDecodeError) -> InvalidRequest:
    try:
        read = body.decode()[: fault.pos]  # the position counts characters
    except UnicodeDecodeError as odd:
        read = body[: odd.start].decode()
    return no_json(fault, read)


def no_json(fault: ValueError, read: str) -> InvalidRequest:
    """`param` is where the parser stopped, behind what it has `read`: a client's library may have
    written a number or a text that JSON has not, such as an infinity or half of an emoji."""
    place = json_place.last_place(read)
    told = f"The body is not valid JSON: {fault}"
    return InvalidRequest(f"{told}, in {place!r}." if place else f"{told}.", param=place)


def _text(body: bytes) -> str:
    return body[: json_place.LOOKED_AT].decode(errors="replace")


def refusal(fault: ValidationError, name: str = "", behind: int = 0) -> InvalidRequest:
    """The first fault in OpenAI's words: the message says what is wrong, `param` says where. The
    list `name` is the rest of one, `behind` so many entries.

    For a union, pydantic lists the fault of each member. The client most likely meant the member
    whose fault lies deepest. All faults at that place are named.
    """
    errors = fault.errors(include_url=False, include_input=False)
    paths = [_path(_moved(error["loc"], name, behind)) for error in errors]
    first = paths[0]
    near = [
        (path, error)
        for path, error in zip(paths, errors, strict=True)
        if path == first or path.startswith((first + ".", first + "[")) or first == "body"
    ]
    param, chosen = max(near, key=lambda pair: pair[0].count(".") + pair[0].count("["))
    if chosen["type"] == "missing":
        return missing(param)
    told = dict.fromkeys(error["msg"] for path, error in near if path == param)
    return invalid(param, ", or: ".join(told))


def invalid(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for {param!r}: {why}.", param=param)


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: {param!r}.", param=param)


def check_bias(bias: object) -> None:
    """Checks `logit_bias`, if it is an object."""
    for token, number in bias.items() if isinstance(bias, dict) else ():
        if isinstance(number, bool):
            continue
        if not isinstance(number, int | float) or not -_BIAS <= number <= _BIAS:
            why = f"the number for {token[:_LONGEST]!r} has to be from -100 to 100"
            raise invalid("logit_bias", why)


def text_in(found: Mapping[str, Any], name: str, where: str) -> str:
    """The string in the field `name` of the object at `where`. Raises InvalidRequest."""
    value = found.get(name)
    if value is None:
        raise missing(f"{where}.{name}")
    if not isinstance(value, str):
        raise invalid(f"{where}.{name}", "a string is needed")
    return value


def object_in(found: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = found.get(name)
    if value is None:
        raise missing(f"{where}.{name}")
    if not isinstance(value, dict):
        raise invalid(f"{where}.{name}", "an object is needed")
    return value


def _moved(loc: tuple[int | str, ...], name: str, behind: int) -> tuple[int | str, ...]:
    if not behind or loc[0] != name:
        return loc
    at = next((at for at, step in enumerate(loc) if isinstance(step, int)), len(loc))
    return (*loc[:at], *(int(step) + behind for step in loc[at : at + 1]), *loc[at + 1 :])


def _path(loc: tuple[int | str, ...]) -> str:
    """A path like ``messages[0].role``, without the names of types that pydantic adds."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and not step[0].isupper() and step not in _TAGS:
            path += f".{step}" if path else step
    return path or "body"

"""Uploads: a form is read whole and checked, and its bytes go to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request

from ingress.http.body import read_body
from schemas import multipart
from schemas.api import media
from schemas.api.shape import Shape, invalid, missing
from schemas.errors import InvalidRequest
from schemas.multipart import FormError, Part

_NULL = b"null"
"""What clients write into a form for no value, as they do the empty text."""
_FREE = frozenset({"prompt"})
"""Fields in which "null" and the empty text are texts like any other."""
_NAMES = frozenset({"model"})
"""Fields in which the empty text is a mistake, as it is in JSON."""


LARGE = 2**20
"""Bytes of a form that others notice when it is taken apart (measured: 2 ms a MiB) or written: such
is done in a thread."""


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a form in their order, and its bytes for engines: as they came, if every server
    reads them."""

    parts: list[Part]
    body: bytes
    content_type: str

    def fields(self, known: media.Form, texts: frozenset[str]) -> dict[str, Any]:
        """The fields that are text, by name, read as `known` says. A field ``x[]`` becomes a list
        ``x``, and ``x[y]`` an object. `texts`: names that only texts have. An upload with another
        name has its filename as value, as the engine may know the field. Raises InvalidRequest."""
        found: dict[str, Any] = {}
        for part in self.parts:
            if part.name in known.files:
                continue
            name, _, inner = part.name.partition("[")
            if part.filename is not None and name not in texts | known.reads.keys():
                found.setdefault(part.name, part.filename)
                continue
            value = known.reads.get(name, str)(_text(part))
            if not inner.endswith("]"):
                _put(found, part.name, value)
            elif inner == "]":
                _put(found, name, value if isinstance(value, list) else [value])
            else:
                _put(found, name, {inner.removesuffix("]"): value})
        return found

    def checked(self, known: media.Form, shape: Shape) -> tuple[dict[str, Any], Form]:
        """The fields as a checked request, and the form; a new one if it had to be made plain.
        Raises InvalidRequest."""
        parts = [part for part in self.parts if not _is_absent(part, shape.names)]
        form = self if len(parts) == len(self.parts) else written(parts)
        asked = form.fields(known, shape.names)
        if shape.check(asked):
            form = written([_with_value(part, asked.get(part.name)) for part in parts])
        return asked, form

    def files(self, *names: str) -> list[Part]:
        """The uploads with these names. Raises InvalidRequest if one is no file, or empty."""
        found = [part for part in self.parts if part.name in names]
        for part in found:
            if part.filename is None:
                raise invalid(part.name, "it has to be a file: a part with a filename")
            if not part.content:
                raise invalid(part.name, "the file is empty")
        return found

    def file(self, name: str) -> Part:
        """The upload with this name. Raises InvalidRequest unless there is exactly one."""
        found = self.files(name)
        if not found:
            raise missing(name)
        if len(found) > 1:
            raise _twice(name)
        return found[0]


Take = Callable[[Callable[[], Form]], Awaitable[Form]]


async def read_form(request: Request, limit: int, take: Take | None = None) -> Form:
    """The form in a request, as engines get it. `take`: takes apart a large one at its time. Raises
    InvalidRequest for what is no form, before the body is read if the head tells."""
    content_type = request.headers.get("content-type", "")
    try:
        multipart.boundary(content_type)
        body = await read_body(request, limit)
        if take is None or len(body) <= LARGE:
            return _apart(body, content_type)
        return await take(partial(_apart, body, content_type))
    except FormError as fault:
        raise InvalidRequest(str(fault), param=fault.param) from None


async def checked(form: Form, known: media.Form, shape: Shape) -> tuple[dict[str, Any], Form]:
    """What `form.checked` gives or raises: a large form may have to be written anew."""
    if len(form.body) <= LARGE:
        return form.checked(known, shape)
    return await asyncio.to_thread(form.checked, known, shape)


def _apart(body: bytes, content_type: str) -> Form:
    parts = multipart.parse(body, content_type)
    return Form(parts, *multipart.plainly(body, content_type, parts))


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    """Add a value: lists and objects of one name grow together. Raises InvalidRequest."""
    before = found.setdefault(name, None)
    if before is None:
        found[name] = value
    elif isinstance(before, list) and isinstance(value, list):
        before.extend(value)
    elif isinstance(before, dict) and isinstance(value, dict) and not before.keys() & value.keys():
        before.update(value)
    else:
        raise _twice(name)


def _is_absent(part: Part, known: frozenset[str]) -> bool:
    """An unknown field may be empty for its engine."""
    if part.filename is not None or part.name in _FREE:
        return False
    empty = not part.content and part.name in known - _NAMES
    return empty or part.content == _NULL


def written(parts: list[Part]) -> Form:
    """The form with these parts."""
    return Form(parts, *multipart.encode(parts))


def _with_value(part: Part, value: Any) -> Part:
    """The part, with the whole number in its plain form if the value is one."""
    # Not isinstance: True is an int, too.
    return replace(part, content=b"%d" % value) if type(value) is int else part


def _twice(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name!r} is given twice.", param=name)


def _text(part: Part) -> str:
    if part.filename is not None:
        raise invalid(part.name, "it has to be text, not a file")
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(part.name, "it is not valid UTF-8") from None

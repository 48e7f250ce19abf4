"""Every place of a request that the specifications know, by the parameter types of OpenAI's and
Anthropic's own client libraries, which are made of the specifications. What a newer one adds is
found here without a change."""

from __future__ import annotations

import base64
import os
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5E"
    "rkJggg=="
)
PICTURE = f"data:image/png;base64,{PIXEL}"
_TEXTS = {
    "url": PICTURE,
    "image_url": PICTURE,
    "data": PIXEL,
    "arguments": "{}",
    "media_type": "image/png",
}
"""Good values of fields that not every text is good for."""
_NUMBERS = {"max_output_tokens": 16, "budget_tokens": 1024, "timeout": 1}
_SEQUENCES = ("Iterable", "Sequence", "SequenceNotStr", "List", "list")


_FILES = (typing.IO, os.PathLike, tuple)


@dataclass(frozen=True, slots=True)
class Place:
    """`path` leads to it in `body`, a good request. `kinds`: names of JSON's kinds that fit it.
    `required`: the object that it stands in needs it. `deep`: below one of several forms."""

    path: tuple[str | int, ...]
    kinds: frozenset[str]
    required: bool
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """As errors write it: ``messages[0].role``."""
        told = ""
        for step in self.path:
            told += f"[{step}]" if isinstance(step, int) else f".{step}" if told else step
        return told

    def with_value(self, value: Any) -> dict[str, Any]:
        return typing.cast("dict[str, Any]", _changed(self.body, self.path, lambda _: value))

    def without(self) -> dict[str, Any]:
        return typing.cast("dict[str, Any]", _changed(self.body, self.path, None))


def _changed(found: Any, path: tuple[str | int, ...], to: Callable[[Any], Any] | None) -> Any:
    """A copy of `found`, of which only what lies on the path is copied."""
    step, *rest = path
    copy: Any = dict(found) if isinstance(found, dict) else list(found)
    if rest:
        copy[step] = _changed(copy[step], tuple(rest), to)
    elif to is None:
        del copy[step]
    else:
        copy[step] = to(None)
    return copy


def places(kind: Any, base: dict[str, Any]) -> Iterator[Place]:
    """The places of requests of a type `kind`; `base` is a good one, and what it says stays."""
    yield from _within(kind, (), lambda inner: {**base, **inner}, set(), base)


Make = Callable[[Any], Any]


def _within(
    kind: Any, path: tuple[str | int, ...], make: Make, seen: set[Any], base: Any = None
) -> Iterator[Place]:
    """The places in an object of type `kind`, which `make` makes a request of."""
    if kind in seen:
        return
    seen.add(kind)
    smallest = {} if base is not None else example(kind)
    for name, annotation in fields(kind).items():
        inner, required = _bare(annotation)[0], is_required(kind, annotation)
        at = (*path, name)
        for form in forms(inner):

            def around(value: Any, name: str = name) -> Any:
                return make({**smallest, name: value})

            known = base is not None and form is bytes and name in base
            good = around(base[name] if known else example(form, name))
            yield Place(at, kinds(inner), required, good)
            yield from _below(form, at, around, seen)


def _below(form: Any, path: tuple[str | int, ...], make: Make, seen: set[Any]) -> Iterator[Place]:
    if typing_extensions.is_typeddict(form):
        yield from _within(form, path, make, seen)
    elif _is_sequence(form) and get_args(form):
        for each in forms(get_args(form)[0]):

            def around(value: Any) -> Any:
                return make([value])

            at = (*path, 0)
            if not typing_extensions.is_typeddict(each) or each not in seen:
                yield Place(at, kinds(get_args(form)[0]), False, around(example(each)))
            yield from _below(each, at, around, seen)


@cache
def fields(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind, include_extras=True)


def _bare(annotation: Any) -> tuple[Any, bool | None]:
    """The type inside of Required, NotRequired and Annotated, and what the first two say."""
    origin = get_origin(annotation)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired):
        return _bare(get_args(annotation)[0])[0], origin is typing_extensions.Required
    if origin is typing_extensions.Annotated:
        return _bare(get_args(annotation)[0])
    return annotation, None


def is_required(kind: Any, annotation: Any) -> bool:
    """Whether objects of type `kind` need the field with this annotation."""
    needed = _bare(annotation)[1]
    return bool(kind.__total__ if needed is None else needed)


def forms(annotation: Any) -> list[Any]:
    """The members of a union, flat and without null; what is none is its only one. Of the ways to
    name a file only its bytes are left."""
    bare, _ = _bare(annotation)
    if isinstance(bare, typing_extensions.TypeAliasType):
        return forms(bare.__value__)
    if get_origin(bare) in (typing.Union, types.UnionType):
        return [form for each in get_args(bare) for form in forms(each)]
    if bare is type(None) or (isinstance(bare, type) and issubclass(bare, BaseModel)):
        return []  # an answer of the library itself, which it writes as the objects beside it
    if (get_origin(bare) or bare) in _FILES:
        return []  # other ways to say the same bytes
    return [bare]


def _is_sequence(form: Any) -> bool:
    name = getattr(get_origin(form) or form, "__name__", "")
    return name in _SEQUENCES


@cache
def kinds(annotation: Any) -> frozenset[str]:
    return frozenset(kind for form in forms(annotation) for kind in _kinds(form))


def _kinds(form: Any) -> set[str]:
    if get_origin(form) is Literal:
        return {type(each).__name__ for each in get_args(form)}
    if typing_extensions.is_typeddict(form):
        return {"dict"}
    if _is_sequence(form):
        return {"list"}
    if form is float:
        return {"int", "float"}
    if form in (str, int, bool):
        return {form.__name__}
    if form in (object, Any):
        return {"str", "int", "float", "bool", "list", "dict"}
    origin = get_origin(form) or form
    if origin in (dict, typing.Mapping) or getattr(origin, "__name__", "") in ("dict", "Mapping"):
        return {"dict"}
    return {"str"}


def example(form: Any, name: str = "") -> Any:
    """The smallest good value of a type, for a field called `name`."""
    form = forms(form)[0]
    if get_origin(form) is Literal:
        return get_args(form)[0]
    if typing_extensions.is_typeddict(form):
        return {
            key: example(_bare(inner)[0], key)
            for key, inner in fields(form).items()
            if is_required(form, inner)
        }
    if _is_sequence(form):
        return [example(get_args(form)[0])]
    good: dict[Any, Any] = {
        str: _TEXTS.get(name, "x"),
        int: _NUMBERS.get(name, 1),
        float: 1.0,
        bool: True,
        object: "x",
        bytes: base64.b64decode(PIXEL),
    }
    return good.get(form, {})

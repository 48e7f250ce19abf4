"""The card with which a worker describes itself each second and on change, on ``hb.<holder>``.

It is JSON and not msgpack, so that people can read ``nats sub 'hb.>'``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from schemas.api.endpoints import VERSION
from schemas.frames import Role
from schemas.jobs import VERSION as PROTOCOL
from schemas.jobs import CodecError

T = TypeVar("T")

NOTHING: tuple[Any, ...] = (False, "", 0, [], {})
"""Values with which most fields ask for nothing. In every field, null asks for nothing."""


def resuming(endpoint: str) -> str:
    """The feature of an engine that can continue a begun answer: ``chat/completions:resume``."""
    return f"{endpoint.removeprefix(VERSION).lstrip('/')}:resume"


def resuming_thoughts(endpoint: str) -> str:
    """The feature of one that also continues begun thoughts, and a text behind thoughts."""
    return f"{resuming(endpoint)}-thoughts"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field of requests that an engine silently ignores, and `why`.

    `field` may be a path (``text.verbosity``). `at`: the features (endpoints) where the engine
    ignores the field; empty means all. `unless`: values that ask only for what the engine does
    anyway; null or empty members of an object do not count. `same`: another field; if both have the
    same value, the request asks for nothing special. `tried`: the engine may honour the field after
    all, so it gets the request, and its worker refuses a wrong answer. `partly`: the engine honours
    the field for some requests and does not say for which, so all are served, with a warning.
    """

    field: str
    why: str
    at: tuple[str, ...] = ()
    unless: tuple[Any, ...] = NOTHING
    same: str = ""
    tried: bool = False
    partly: bool = False

    def wanted(self, request: Mapping[str, Any]) -> bool:
        """Whether `request` asks for something that the engine would ignore."""
        value: Any = request
        for step in self.field.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None or value in self.unless:
            return False
        if isinstance(value, Mapping) and _asked(value) in self.unless:
            return False
        return not self.same or value != request.get(self.same)


def names_at(knows: Iterable[str], feature: str) -> frozenset[str] | None:
    """The names in `ServedModel.knows` for one endpoint; None if nothing is known."""
    split = [entry.split(" ") for entry in knows]
    found = [names for at, *names in split if feature in at.split(",")]
    return frozenset().union(*found) if found else None


def _asked(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if each not in (None, [], {})}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model on one engine. `context`: tokens for one slot, 0 if unknown. `features`: its
    endpoints and abilities; empty if unknown, like `modalities`. `ignores`: the fields that it
    ignores. `knows`: names of fields that its engine has beside OpenAI's. Each entry lists
    endpoints, with commas, and then names (``chat,completions grammar min_p``); for an endpoint
    without an entry nothing is known."""

    id: str
    engine: str
    kind: str
    slots: int
    context: int = 0
    modalities: tuple[str, ...] = ("text",)
    features: tuple[str, ...] = ()
    ignores: tuple[Ignored, ...] = ()
    knows: tuple[str, ...] = ()

    def has(self, feature: str) -> bool:
        """True also if nothing is known about the model's features."""
        return not self.features or feature in self.features


@dataclass(frozen=True, slots=True)
class EngineState:
    """`state`: stopped | starting | ready | failed | stopping; `reason`: why it is not ready."""

    name: str
    kind: str
    state: str
    slots: int
    busy: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """`server`, `client`: the ids of the broker and of this connection in the broker's disconnect
    events. `models`: only models that can be served now, so those of an engine that is away are
    left out; for a fallback, the models of its providers. `role`: one of `Role`, or a newer one.
    `protocol`: the version of the jobs and frames that the holder reads and sends."""

    holder: str
    node: str
    server: str
    client: int
    version: str
    draining: bool = False
    engines: tuple[EngineState, ...] = ()
    models: tuple[ServedModel, ...] = ()
    jobs: int = 0
    started: int = 0
    role: str = Role.WORKER
    protocol: int = PROTOCOL

    def serving(self, model: str) -> list[EngineState]:
        """The engines that serve `model`."""
        names = {served.engine for served in self.models if served.id == model}
        return [engine for engine in self.engines if engine.name in names]

    def pack(self) -> bytes:
        """Models stand under `serves`, and `ignores` and `knows` under `fields`, by number.

        The facts about fields are the longest part of a card and mostly equal for all models of an
        engine, so each set is written once. `models` is empty: readers of version 1 then know the
        holder, but send nothing to its models.
        """
        models, told = [], list[tuple[Any, ...]]()
        for model in self.models:
            about = model.ignores, model.knows
            if about not in told:
                told.append(about)
            plain = {name: getattr(model, name) for name in _PLAIN}
            models.append({**plain, "fields": told.index(about)})
        said = {name: getattr(self, name) for name in Card.__dataclass_fields__}
        fields = [{"ignores": list(map(_said, each)), "knows": knows} for each, knows in told]
        return orjson.dumps({**said, "models": [], "serves": models, "fields": fields})


def unpack(data: bytes) -> Card:
    """Ignores unknown fields (from a newer worker). Raises CodecError, also for a field of a wrong
    type, because everything that is served depends on cards."""
    try:
        raw = orjson.loads(data)
        engines = tuple(_made(EngineState, each) for each in raw["engines"])
        told = _about(orjson.dumps(raw["fields"]))  # bytes, because a cache needs hashable keys
        protocol = raw.get("protocol", 1)  # version 1 did not say it
        served = raw["models"] if protocol == 1 else raw["serves"]
        each_told = ({**each, **told[each["fields"]]} for each in served)
        models = tuple(_made(ServedModel, each) for each in each_told)
        return _made(Card, {**raw, "engines": engines, "models": models, "protocol": protocol})
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as fault:
        raise CodecError(f"not a card: {fault}") from None


_TYPES = {"str": str, "int": int, "bool": bool}
_TEXTS = "tuple[str, ...]"
_NEVER_EMPTY = ("id", "holder")


def _made(kind: type[T], raw: dict[str, Any]) -> T:
    """A `kind` from its known fields. Raises TypeError."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    fields = {name: value for name, value in raw.items() if name in known}
    for name, value in fields.items():
        said = known[name].type  # a text, by the import from __future__
        fits = type(value) is _TYPES.get(said, type(value))
        if said == _TEXTS:
            fields[name] = tuple(value)
            fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        if not fits or (value == "" and name in _NEVER_EMPTY):
            raise TypeError(f"{name!r} of {kind.__name__} cannot be {str(value)[:64]!r}")
    return kind(**fields)


_PLAIN = tuple(n for n in ServedModel.__dataclass_fields__ if n not in ("ignores", "knows"))
_USUAL = {name: each.default for name, each in Ignored.__dataclass_fields__.items()}


def _said(entry: Ignored) -> dict[str, Any]:
    """The fields of `entry` that differ from their defaults."""
    return {n: value for n, usual in _USUAL.items() if (value := getattr(entry, n)) != usual}


@lru_cache(64)
def _about(fields: bytes) -> list[dict[str, Any]]:
    """Cached, because most cards repeat the fields of the card before."""
    return [
        {"ignores": tuple(map(_ignored, each["ignores"])), "knows": each["knows"]}
        for each in orjson.loads(fields)
    ]


def _ignored(raw: dict[str, Any]) -> Ignored:
    return _made(Ignored, {**raw, "unless": tuple(raw.get("unless", NOTHING))})

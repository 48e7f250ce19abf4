"""The card with which a worker describes itself each second and on change, on ``hb.<holder>``.

It is JSON and not msgpack, so that people can read ``nats sub 'hb.>'``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from schemas import bounds, labels, subjects
from schemas.api.endpoints import VERSION
from schemas.frames import Role
from schemas.jobs import VERSION as PROTOCOL
from schemas.jobs import CodecError

T = TypeVar("T")

MOST_BYTES = 2**20
"""Bytes of a card: half of what the broker takes."""
SHORT, MOST_SHORT = 4096, 4096
"""Bytes of cards that are kept with what was read of them, and how many are."""
MOST_MODELS = 256
"""Models of one engine: each has a consumer at the broker, and a line on the card."""
MOST_OF_ONE = 8 * MOST_MODELS
"""Models of one process, whatever engines it has."""

LAST_RANK = 8
"""The last of the ranks that engines of a model have; 0 is asked first. The broker has one more,
for those who look at what nobody takes."""
UNRANKED = 9

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
    without an entry nothing is known. `digest`: another one means other weights; "" if its engine
    does not tell.

    How fast it is, as its worker has measured (`workers.pace`), in microseconds, 0 if unknown:
    `token_us` for a token of an answer, `prompt_us` for one of a prompt, `request_us` for a whole
    answer without tokens. `priority`: as its operator says; `rank`: with which its jobs are asked
    for now, `UNRANKED` if its worker does not say so. These change with each answer, so two that
    differ in them alone are equal."""

    id: str
    engine: str
    kind: str
    slots: int
    context: int = 0
    modalities: tuple[str, ...] = ("text",)
    features: tuple[str, ...] = ()
    ignores: tuple[Ignored, ...] = ()
    knows: tuple[str, ...] = ()
    digest: str = ""
    token_us: int = field(default=0, compare=False)
    prompt_us: int = field(default=0, compare=False)
    request_us: int = field(default=0, compare=False)
    priority: int = field(default=0, compare=False)
    rank: int = field(default=UNRANKED, compare=False)

    def has(self, feature: str) -> bool:
        """True also if nothing is known about the model's features."""
        return not self.features or feature in self.features


@dataclass(frozen=True, slots=True)
class EngineState:
    """`state`: stopped | starting | ready | failed | stopping; `reason`: why it is not
    ready, or what is odd about one that is."""

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
    `protocol`: the version of the jobs and frames that the holder reads and sends. `labels`: those
    of its node, as ``gpu=4090``. `metrics`: where its page of metrics is on its machine, as
    ``host:port``; "" if it has none."""

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
    labels: tuple[str, ...] = ()
    metrics: str = ""

    def serving(self, model: str) -> list[EngineState]:
        """The engines that serve `model`."""
        names = {served.engine for served in self.models if served.id == model}
        return [engine for engine in self.engines if engine.name in names]

    def pack(self, *, whole: bool = True) -> bytes:
        """Models stand under `serves`, and `ignores` and `knows` under `fields`, by number.

        The facts about fields are nine tenths of a card and mostly equal for all models of an
        engine, so each set is written once; and unless the card is to be `whole`, as its digest
        alone, which says that it is one that was told before. `models` is empty: readers of
        version 1 then know the holder, but send nothing to its models.
        """
        models, told = [], list[tuple[Any, ...]]()
        for model in self.models:
            about = model.ignores, model.knows
            if about not in told:
                told.append(about)
            plain = {name: getattr(model, name) for name in _PLAIN}
            models.append({**plain, "fields": told.index(about)})
        said = {name: getattr(self, name) for name in Card.__dataclass_fields__}
        fields: list[dict[str, Any]] = [
            {"ignores": list(map(_said, each)), "knows": knows} for each, knows in told
        ]
        if not whole:
            fields = list(map(_brief, fields))
        return orjson.dumps({**said, "models": [], "serves": models, "fields": fields})


class FieldsUnknown(CodecError):
    """The card names facts about fields that were told before this process heard."""


def heard(subject: str, data: bytes, *, partly: bool = False) -> Card:
    """A card that came on `subject`, which says whose it is, as the broker may allow each login its
    own alone. `partly`: facts about fields that are not known count as none. Raises FieldsUnknown,
    CodecError."""
    card = unpack(data, partly=partly)
    if subject != subjects.card(card.holder):
        raise CodecError(f"not a card: one of {card.holder!r} came on {bounds.cut(subject)!r}")
    if not subjects.are_of(card.node, card.holder, subjects.home_of(card.holder)):
        raise CodecError(f"not a card: {card.holder!r} is none of {bounds.cut(card.node)!r}")
    return card


def unpack(data: bytes, *, partly: bool = False) -> Card:
    """Ignores unknown fields (from a newer worker). Raises CodecError, also for a field of a wrong
    type, because everything that is served depends on cards; and FieldsUnknown, unless `partly`."""
    if len(data) > MOST_BYTES:
        raise CodecError(f"not a card: {len(data)} bytes are more than {MOST_BYTES}")
    return (_read_before if len(data) <= SHORT else _read)(data, partly)


def _read(data: bytes, partly: bool) -> Card:
    try:
        raw = orjson.loads(data)
        engines = tuple(_made(EngineState, each) for each in raw["engines"])
        told = [_about(each, partly) for each in raw["fields"]]
        protocol = raw.get("protocol", 1)  # version 1 did not say it
        served = raw["models"] if protocol == 1 else raw["serves"]
        if len(served) > MOST_OF_ONE:
            raise CodecError(f"not a card: {len(served)} models are more than {MOST_OF_ONE}")
        if len(raw.get("labels", ())) > labels.MOST:
            raise CodecError(f"not a card: its node has more than {labels.MOST} labels")
        each_told = ({**each, **told[each["fields"]]} for each in served)
        models = tuple(_made(ServedModel, each) for each in each_told)
        return _made(Card, {**raw, "engines": engines, "models": models, "protocol": protocol})
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as fault:
        raise CodecError(f"not a card: {fault}") from None


_read_before = lru_cache(MOST_SHORT)(_read)
"""Most cards are the same as the one before: an idle worker says nothing new."""

_NUMBERS = {
    "slots": bounds.SLOTS,
    "busy": bounds.SLOTS,
    "context": bounds.TOKENS,
    "priority": LAST_RANK,
    "rank": UNRANKED,
}
_LETTERS = {
    "id": bounds.MODEL,
    "holder": bounds.HOLDER,
    "reason": bounds.MESSAGE,
    "why": bounds.MESSAGE,
}
"""Bounds of fields that are not `bounds.WHOLE` or `bounds.NAME`."""
_TEXTS = "tuple[str, ...]"


def _made(kind: type[T], raw: dict[str, Any]) -> T:
    """A `kind` from its known fields. Raises TypeError."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    fields = {name: value for name, value in raw.items() if name in known}
    for name, value in fields.items():
        said = known[name].type  # a text, by the import from __future__
        if not _fits(said, name, value):
            raise TypeError(f"{name!r} of {kind.__name__} cannot be {str(value)[:64]!r}")
        if said == _TEXTS:
            fields[name] = tuple(value)
    return kind(**fields)


def _fits(said: str, name: str, value: object) -> bool:
    """Whether `value` is what `said` names, and within the bounds of the field `name`."""
    if said == "str":
        return bounds.is_text(value, _LETTERS.get(name, bounds.NAME)) and _is_named(name, value)
    if said == "int":
        return bounds.is_number(value, _NUMBERS.get(name, bounds.WHOLE))
    if said == _TEXTS:
        longest = MOST_BYTES if name == "knows" else bounds.NAME
        return type(value) is list and bounds.are_texts(value, longest)
    return said != "bool" or type(value) is bool


def _is_named(field: str, value: str) -> bool:
    """Whether a text may stand in subjects, if it has to."""
    if field == "holder":
        return bounds.is_holder(value)
    return field != "id" or subjects.is_model(value)


_PLAIN = tuple(n for n in ServedModel.__dataclass_fields__ if n not in ("ignores", "knows"))
_USUAL = {name: each.default for name, each in Ignored.__dataclass_fields__.items()}


def _said(entry: Ignored) -> dict[str, Any]:
    """The fields of `entry` that differ from their defaults."""
    return {n: value for n, usual in _USUAL.items() if (value := getattr(entry, n)) != usual}


_KNOWN: OrderedDict[str, dict[str, Any]] = OrderedDict()
"""Facts about fields by their digests, which are made here, so that no card says them of others.
Those that were used last stand at the end."""
MOST_KNOWN = 256
LONGEST_KNOWN = 64 * 1024
"""Bytes of one of them; longer ones are told by each card."""
_NONE_KNOWN: dict[str, Any] = {"ignores": (), "knows": []}


def _about(raw: dict[str, Any], partly: bool) -> dict[str, Any]:
    """The facts that a card tells, or names by their digest."""
    if (digest := raw.get("same")) is None:
        digest, made = _told(orjson.dumps(raw))  # bytes, because a cache needs hashable keys
        if digest:
            _KNOWN[digest] = made
    elif (made := _KNOWN.get(digest, _NONE_KNOWN)) is _NONE_KNOWN:
        if not partly:
            raise FieldsUnknown(f"not a whole card: {str(digest)[:64]!r} was not told here")
        return made
    if digest:
        _KNOWN.move_to_end(digest)
        if len(_KNOWN) > MOST_KNOWN:
            _KNOWN.popitem(last=False)
    return made


@lru_cache(64)
def _told(fields: bytes) -> tuple[str, dict[str, Any]]:
    """Cached, because most cards repeat the facts of the card before. The digest is "" if they are
    too long to be known by it."""
    each = orjson.loads(fields)
    made = {"ignores": tuple(map(_ignored, each["ignores"])), "knows": each["knows"]}
    return "" if len(fields) > LONGEST_KNOWN else _digest(fields), made


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    said = orjson.dumps(facts)
    return facts if len(said) > LONGEST_KNOWN else {"same": _digest(said)}


def _digest(fields: bytes) -> str:
    return hashlib.blake2b(fields, digest_size=16).hexdigest()


def _ignored(raw: dict[str, Any]) -> Ignored:
    return _made(Ignored, {**raw, "unless": tuple(raw.get("unless", NOTHING))})

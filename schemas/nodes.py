"""The card: what a worker says of itself each second and on change, as JSON on ``hb.<holder>``.

JSON, not msgpack, so that ``nats sub 'hb.>'`` can be read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from schemas.jobs import CodecError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model on one engine. `context`: tokens for one slot, 0 if unknown."""

    id: str
    engine: str
    kind: str
    slots: int
    context: int = 0
    modalities: tuple[str, ...] = ("text",)
    features: tuple[str, ...] = ()


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
    """`server`, `client`: the broker's id of itself and of this connection, as its disconnect event
    names them. `models` lists only what can be served now: an engine that is away is left out."""

    holder: str
    node: str
    server: str
    client: int
    version: str
    draining: bool = False
    engines: tuple[EngineState, ...] = ()
    models: tuple[ServedModel, ...] = ()
    jobs: int = 0
    started: int = field(default=0)

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


def unpack(data: bytes) -> Card:
    """Unknown fields (a newer worker's) are passed over. Raises CodecError."""
    try:
        raw = orjson.loads(data)
        return Card(
            **{
                **_known(Card, raw),
                "engines": tuple(EngineState(**_known(EngineState, e)) for e in raw["engines"]),
                "models": tuple(_model(m) for m in raw["models"]),
            }
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as fault:
        raise CodecError(f"not a card: {fault}") from None


def _known(kind: type[Any], raw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name in kind.__dataclass_fields__}


def _model(raw: dict[str, Any]) -> ServedModel:
    fields = _known(ServedModel, raw)
    for name in ("modalities", "features"):
        fields[name] = tuple(fields.get(name, ()))
    return ServedModel(**fields)

"""What each model can do for the playground, by what ``GET /v1/models`` says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.api.endpoints import CHAT, IMAGES, TRANSCRIPTIONS, TRANSLATIONS, Endpoint

MODES: Mapping[str, Endpoint] = {"Chat": CHAT, "Transcription": TRANSCRIPTIONS, "Picture": IMAGES}


@dataclass(frozen=True, slots=True)
class Model:
    """`told`: whether its engines tell what they can; one of others may be asked for anything, and
    refuses by itself. `paid`: the providers that it has."""

    id: str
    features: frozenset[str]
    senses: frozenset[str]
    ignores: frozenset[str]
    nodes: tuple[str, ...]
    paid: tuple[str, ...]
    told: bool

    def does(self, endpoint: Endpoint) -> bool:
        return endpoint.word in self.features or not self.features

    @property
    def modes(self) -> list[str]:
        return [name for name, endpoint in MODES.items() if self.does(endpoint)]

    @property
    def sees(self) -> bool:
        return "vision" in self.senses or not self.told

    @property
    def hears(self) -> bool:
        return "audio" in self.senses or not self.told

    @property
    def thinks(self) -> bool:
        return "reasoning" in self.features or not self.told

    @property
    def translates(self) -> bool:
        return TRANSLATIONS.word in self.features

    def where(self) -> str:
        """Who serves it, for people."""
        paid = [f"provider {each}" for each in self.paid]
        return ", ".join([*self.nodes, *paid]) or "nobody"


def models(listed: Mapping[str, Any]) -> list[Model]:
    """Of the list that an ingress gives: those that the playground can use, in its order."""
    found = (_model(each) for each in _objects(listed.get("data")))
    return [model for model in found if model.modes]


def _model(entry: Mapping[str, Any]) -> Model:
    facts = entry.get("headrace")
    facts = facts if isinstance(facts, Mapping) else {}
    kinds = _texts(facts.get("engines"))
    silent = not kinds or "openai" in kinds  # of providers, and of engines that do not tell
    ignores = facts.get("ignores")
    return Model(
        str(entry.get("id", "")),
        frozenset(_texts(facts.get("features"))),
        frozenset(_texts(facts.get("modalities"))),
        _ignored(ignores if isinstance(ignores, Mapping) else {}),
        tuple(_texts(facts.get("nodes"))),
        tuple(_texts(facts.get("providers"))),
        not silent,
    )


def _ignored(ignores: Mapping[str, Any]) -> frozenset[str]:
    """Fields of chats without an effect."""
    return frozenset(
        field
        for field, why in ignores.items()
        if isinstance(why, Mapping) and CHAT.word in why.get("at", (CHAT.word,))
    )


def _objects(found: Any) -> Iterable[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _texts(found: Any) -> list[str]:
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

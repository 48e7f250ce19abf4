"""Which engines there are for a model, how many of their slots are free, and how fast they read.
Pure.

What is free is counted, not read: a card is up to a second old, and speaks of jobs of this ingress
that have ended since. So jobs of here that have a slot are taken off the card's count when it
comes. Those that are only sent there, and may wait for a slot, are not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ingress.models.affinity import Place
from schemas.nodes import Card

UNKNOWN = 8192
"""Tokens of a slot whose context is not known."""


@dataclass(slots=True)
class Engine:
    """One engine, as its last card says. `models`: with their contexts. `paces`: the microseconds
    that it takes to read a token, 0 if unknown. `others`: slots that had jobs of other ingresses.
    `tells`: it reports what it found in its cache."""

    node: str
    slots: int
    models: dict[str, int]
    paces: dict[str, int]
    others: int = 0
    tells: bool = False


class Engines:
    """`shared`: the models that several engines serve, with how many."""

    def __init__(self) -> None:
        self.shared: dict[str, int] = {}
        self._engines: dict[str, dict[str, Engine]] = {}
        """By holder and name."""
        self._many: Counter[str] = Counter()
        """Engines of each model."""
        self._at: dict[str, tuple[Place, bool]] = {}
        """Where jobs of this ingress are to run, and whether they run."""
        self._own: Counter[Place] = Counter()
        """How many jobs that are."""
        self._running: Counter[Place] = Counter()
        """How many of them run."""

    def get(self, place: Place) -> Engine | None:
        return self._engines.get(place.holder, {}).get(place.engine)

    def hear(self, card: Card) -> list[Place]:
        """The engines of a worker. Returns those that are gone, were begun anew, or are about to
        be."""
        here = {} if card.draining else self._of_card(card)
        before = self._engines.get(card.holder, {})
        for name, engine in here.items():
            engine.tells = name in before and before[name].tells
        self._engines[card.holder] = here
        left = [
            Place(card.holder, name)
            for name, engine in before.items()
            if name not in here or here[name].models != engine.models
        ]
        if _models(here) != _models(before):
            self._count(before, here)
        if not here:
            del self._engines[card.holder]
        return left

    def forget(self, holder: str) -> list[Place]:
        """The process is gone. Returns its engines."""
        before = self._engines.pop(holder, {})
        self._count(before, {})
        return [Place(holder, name) for name in before]

    def move(self, job: str, place: Place | None, *, runs: bool = False) -> None:
        """A job of this ingress is to run there, or `runs` there; nowhere with None."""
        if (before := self._at.pop(job, None)) is not None:
            self._count_job(*before, -1)
        if place is not None:
            self._at[job] = place, runs
            self._count_job(place, runs, 1)

    def _count_job(self, place: Place, runs: bool, by: int) -> None:
        for counts in (self._own, self._running) if runs else (self._own,):
            counts[place] += by
            if counts[place] <= 0:
                del counts[place]

    def clear(self) -> None:
        """Nothing runs anywhere, as far as it is counted here."""
        self._at.clear()
        self._own.clear()
        self._running.clear()

    def free(self, place: Place) -> int:
        """Its free slots; below 0 if jobs wait for one."""
        engine = self.get(place)
        return 0 if engine is None else engine.slots - engine.others - self._own[place]

    def _of_card(self, card: Card) -> dict[str, Engine]:
        found: dict[str, Engine] = {}
        for state in card.engines:
            served = [model for model in card.models if model.engine == state.name]
            if served:
                models = {model.id: model.context or UNKNOWN for model in served}
                paces = {model.id: model.prompt_us for model in served}
                others = max(0, state.busy - self._running[Place(card.holder, state.name)])
                found[state.name] = Engine(card.node, state.slots, models, paces, others)
        return found

    def _count(self, before: Mapping[str, Engine], now: Mapping[str, Engine]) -> None:
        self._many.subtract(model for each in before.values() for model in each.models)
        self._many.update(model for each in now.values() for model in each.models)
        self._many += Counter()  # drops what is none
        self.shared = {model: many for model, many in self._many.items() if many > 1}


def _models(engines: Mapping[str, Engine]) -> dict[str, dict[str, int]]:
    return {name: engine.models for name, engine in engines.items()}

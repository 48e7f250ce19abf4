"""Which nodes there are or lately were, their labels, and how each stands for one model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from ingress.models.pins import Pin
from ingress.models.places import AWAY, DRAINED, LACKING, SERVING, STARTING, Place
from schemas import registry
from schemas.nodes import Card

REMEMBERED = 7 * 86_400.0
"""Seconds for which a node is known that is away."""
STARTED = 2.0
"""Seconds after which an ingress has heard each node, whose cards come each second."""
MOST_NODES, MOST_PAST = 1024, 64
"""Nodes that are remembered, and models of one that it served."""


@dataclass(slots=True)
class _Past:
    """What a node was at `since`, when a card of it was last taken back: its labels, and the models
    that it served, with the times since when it does not."""

    labels: tuple[str, ...]
    since: float
    models: dict[str, float] = field(default_factory=dict)


class Nodes:
    """`clock`: monotonic seconds. `cards`: of all workers that are here. `registered`: the nodes
    that joined, by name, with what their operator says of them."""

    def __init__(self, clock: Callable[[], float], cards: Callable[[], Iterable[Card]]) -> None:
        self.registered: Mapping[str, registry.Node] = {}
        self._renamed: set[str] = set()
        """Names that nodes had before."""
        self._clock = clock
        self._began = clock()
        self._cards = cards
        self._past: dict[str, _Past] = {}
        """Of those that had cards which they do not have now."""

    @property
    def incomplete(self) -> bool:
        """Whether there may be nodes whose cards did not come yet."""
        return self._clock() - self._began < STARTED

    def known(self) -> dict[str, tuple[str, ...]]:
        """All nodes, with their labels."""
        return {name: self._labels(name, cards) for name, cards in self._by_name().items()}

    def places(self, model: str, pin: Pin) -> list[Place]:
        """The nodes that may have a request, for one model."""
        return [
            self._place(name, model, cards)
            for name, cards in sorted(self._by_name(pin.name).items())
            if pin.allows(name, self._labels(name, cards))
        ]

    def enroll(self, nodes: Mapping[str, registry.Node]) -> None:
        """These have joined, by name; who has no record any more was forgotten, or renamed."""
        for name in self.registered.keys() - nodes.keys():
            self._past.pop(name, None)
        self._renamed = {node.previous_name for node in nodes.values()}
        self.registered = nodes

    def left(self, card: Card) -> None:
        """The node may not serve any more what this card of it says."""
        if card.node in self._renamed and card.node not in self.registered:
            return  # it finished what it had by its old name, by which nobody is known now
        now = self._clock()
        if (past := self._past.get(card.node)) is None:
            if len(self._past) >= MOST_NODES:
                del self._past[next(iter(self._past))]
            past = self._past[card.node] = _Past(card.labels, now)
        past.labels, past.since = card.labels, now
        for model in card.models[:MOST_PAST]:
            past.models.pop(model.id, None)  # to the end: the first are forgotten first
            past.models[model.id] = now
        while len(past.models) > MOST_PAST:
            del past.models[next(iter(past.models))]

    def came(self, card: Card) -> None:
        """The node serves what this card of it says."""
        if (past := self._past.get(card.node)) is not None:
            for model in card.models:
                past.models.pop(model.id, None)

    def refresh(self) -> None:
        """Start all clocks anew."""
        now = self._clock()
        for past in self._past.values():
            past.models = dict.fromkeys(past.models, now)

    def _by_name(self, name: str = "") -> dict[str, list[Card]]:
        """The cards of each node, or only of this one; none of one that is away."""
        found: dict[str, list[Card]] = {}
        for card in self._cards():
            if name in ("", card.node):
                found.setdefault(card.node, []).append(card)
        for each in [*self._past, *self.registered] if not name else [name]:
            if each not in found and self._is_known(each):
                found[each] = []
        evicted = [each for each in found if self._order(each) == registry.EVICTED]
        for each in evicted:
            del found[each]
        return found

    def _is_known(self, name: str) -> bool:
        past = self._past.get(name)
        recent = past is not None and self._clock() - past.since < REMEMBERED
        return recent or name in self.registered

    def _labels(self, name: str, cards: Iterable[Card]) -> tuple[str, ...]:
        """Those of all its processes, or what it had when it was here."""
        if cards:
            return tuple(sorted({label for card in cards for label in card.labels}))
        past = self._past.get(name)
        return past.labels if past is not None else ()

    def _place(self, name: str, model: str, cards: list[Card]) -> Place:
        if self._order(name) == registry.DRAINED:
            return Place(name, DRAINED, absent=inf)
        there = [card for card in cards if not card.draining]
        engines = [engine for card in there for engine in card.serving(model)]
        if engines:
            slots, busy = (sum(each.slots for each in engines), sum(each.busy for each in engines))
            rank = min(each.rank for card in there for each in card.models if each.id == model)
            return Place(name, SERVING, slots, busy, rank=rank)
        past = self._past.get(name)
        since = past.models.get(model) if past is not None else None
        absent = inf if since is None else self._clock() - since
        if not there:
            return Place(name, DRAINED) if cards else Place(name, AWAY, absent=absent)
        if any(engine.state == "starting" for card in there for engine in card.engines):
            return Place(name, STARTING)
        if since is not None:
            return Place(name, STARTING, absent=absent)
        models = {served.id for card in there for served in card.models}
        return Place(name, LACKING, absent=inf, models=tuple(sorted(models)))

    def _order(self, node: str) -> str:
        """What its operator says that the node is to be."""
        record = self.registered.get(node)
        return record.state if record is not None else registry.ACTIVE

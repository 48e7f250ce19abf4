"""Which processes of nodes are here, and what they do not know yet of the records. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from deploy.nodes.roster import Roster
from schemas import registry, subjects
from schemas.nodes import Card
from schemas.registry import Node, Order

log = structlog.get_logger("hub")

AWAY = 3.5
"""Seconds without a card after which a process counts as away."""
NOTE_EACH = 3600.0
"""Seconds after which it is noted again that a node is here."""
MOST_LETTERS = 2**17
"""Letters of all models together that one node is granted: each stands in the broker's
configuration several times."""
MOST = 4096
"""Processes whose cards are remembered: their names come from the wire."""


class Muster:
    """Hears the cards of all members. Times are Unix seconds."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._cards: dict[str, tuple[float, Card]] = {}
        self._noted: dict[str, float] = {}
        """By node: when it was noted last that it was seen."""
        self._refused: set[tuple[str, str]] = set()
        """Models that nodes show and may not serve, which was said."""

    def cards(self) -> list[Card]:
        return [card for _, card in self._cards.values()]

    def hear(self, card: Card, now: float) -> Node | None:
        """The record of the card's node; None if it has none."""
        node = self._node_of(card)
        if node is None:
            self._cards.pop(card.holder, None)
        elif card.holder in self._cards or len(self._cards) < MOST:
            self._cards[card.holder] = now, card
        return node

    def order(self, card: Card, *, anyway: bool = False) -> Order | None:
        """What its process is to be told; None if the card shows that it knows, unless it is to be
        told `anyway`."""
        node = self._node_of(card)
        if node is None:
            return None
        drained = node.state == registry.DRAINED
        order = Order(node.name, drained, node.rotate, float(len(node.served)))
        knows = card.draining == order.drained and card.node == order.name and not order.rotate
        return None if knows and not anyway else order

    def cards_of(self, name: str) -> list[Card]:
        """Those of one node."""
        return [
            card for card in self.cards() if (node := self._node_of(card)) and node.name == name
        ]

    def ungranted(self, card: Card) -> frozenset[str]:
        """Models that a node shows, may serve, and cannot pull yet."""
        node = self._node_of(card)
        if node is None or not node.nkey or node.role == registry.INGRESS:
            return frozenset()
        new = {model.id for model in card.models} - set(node.served)
        may = {model for model in new if node.allows(model)}
        for model in new - may:
            self._tell_refused(node.name, model)
        room = max(0, registry.MOST_SERVED - len(node.served))
        letters = MOST_LETTERS - sum(map(len, node.served))
        granted = set[str]()
        for model in sorted(may)[:room]:
            letters -= len(model)
            if letters >= 0:
                granted.add(model)
        return frozenset(granted)

    def sightings(self, now: float) -> Iterator[tuple[str, float]]:
        """Nodes of which it is to be noted when they were seen: those that went away, and others
        now and then."""
        seen: dict[str, float] = {}
        for holder, (at, card) in list(self._cards.items()):
            node = self._node_of(card)
            if node is not None:
                seen[node.name] = max(at, seen.get(node.name, 0.0))
            if now - at > AWAY:
                del self._cards[holder]
        for name, at in seen.items():
            if now - at > AWAY or at - self._noted.get(name, 0.0) > NOTE_EACH:
                self._noted[name] = at
                yield name, at

    def long_gone(self, now: float, forget: float) -> list[Node]:
        """Nodes that are away for `forget` seconds; 0: none counts as such. Of ingresses it is not
        known, and one that was evicted is to stay, so that nobody takes its name unnoticed."""
        here = {node.name for card in self.cards() if (node := self._node_of(card))}
        return [
            node
            for _, node in self._roster.nodes.values()
            if forget
            and node.name not in here
            and node.role != registry.INGRESS
            and node.state != registry.EVICTED
            and now - max(node.seen, node.joined, node.since) > forget
        ]

    def _node_of(self, card: Card) -> Node | None:
        name = subjects.decode(subjects.home_of(card.holder))
        if (node := self._roster.node(name)) is not None:
            return node
        for _, each in self._roster.nodes.values():
            if each.previous_name == name:
                return each
        return None

    def _tell_refused(self, node: str, model: str) -> None:
        if (node, model) not in self._refused and len(self._refused) < MOST:
            self._refused.add((node, model))
            log.warning("hub.model_refused", node=node, model=model)

"""Nodes as people and programs read them: by their records, and the cards of who is here. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from schemas import registry
from schemas.nodes import Card
from schemas.registry import Invite, Node

AWAY, DRAINING = "away", "draining"
OWN = "own"
"""Who uses a login of the hub's own machine, and did not join."""


@dataclass(frozen=True, slots=True)
class Row:
    """One node. `state`: invited, active, drained, draining (it still has jobs), away or evicted;
    `since`: Unix seconds, 0 if that is not known. `models`: those that it serves now; `may`: globs
    of those that it may, none: all. `how`: joined, own or invited."""

    name: str
    role: str
    state: str
    since: float
    how: str
    models: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    version: str = ""
    labels: tuple[str, ...] = ()
    jobs: int = 0
    holders: tuple[str, ...] = ()

    @property
    def gets_nothing(self) -> bool:
        """Whether it is a node that gets no jobs now, and may again."""
        return self.state in (AWAY, DRAINING, registry.DRAINED)


def rows(
    nodes: Iterable[Node], invites: Iterable[Invite], cards: Iterable[Card], now: float
) -> list[Row]:
    """All nodes that are known, by their names."""
    here = defaultdict[str, list[Card]](list)
    for card in cards:
        here[card.node].append(card)
    nodes = list(nodes)
    names = {node.name for node in nodes}
    for node in nodes:  # its processes come back by its new name when they have finished
        if node.previous_until > now and node.previous_name not in names:
            here[node.name] += here.pop(node.previous_name, [])
    found = [_of_record(node, here.pop(node.name, [])) for node in nodes]
    found += [_of_cards(name, seen) for name, seen in here.items()]
    found += _invited(invites, now)
    return sorted(found, key=lambda row: (row.name, row.how))


def _invited(invites: Iterable[Invite], now: float) -> Iterator[Row]:
    for invite in invites:
        if not invite.used and invite.expires > now:
            yield Row(
                invite.name, invite.role, "invited", invite.made, "invited", (), invite.models
            )


def _of_record(node: Node, cards: list[Card]) -> Row:
    state, since = node.state, node.since
    jobs = sum(card.jobs for card in cards)
    # An ingress has no card: whether it is here is not known.
    if not cards and node.state != registry.EVICTED and node.role != registry.INGRESS:
        state, since = AWAY, node.seen
    elif node.state == registry.DRAINED and jobs:
        state = DRAINING
    how = "joined" if node.nkey else OWN
    return _seen(Row(node.name, node.role, state, since, how, may=node.models), cards)


def _of_cards(name: str, cards: list[Card]) -> Row:
    state = DRAINING if all(card.draining for card in cards) else registry.ACTIVE
    since = min(card.started for card in cards)
    return _seen(Row(name, cards[0].role, state, since, OWN), cards)


def _seen(row: Row, cards: list[Card]) -> Row:
    """With what its cards show."""
    models = {model.id for card in cards for model in card.models}
    labels = {label for card in cards for label in card.labels}
    versions = sorted({card.version for card in cards})
    return replace(
        row,
        models=tuple(sorted(models)),
        labels=tuple(sorted(labels)),
        version=" ".join(versions),
        jobs=sum(card.jobs for card in cards),
        holders=tuple(sorted(card.holder for card in cards)),
    )

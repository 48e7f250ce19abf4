"""Who serves what: the last card of every worker and fallback, and the models that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ingress.models.nodes import Nodes
from schemas import registry, subjects
from schemas.frames import Role
from schemas.nodes import Card, ServedModel, resuming, resuming_thoughts

STALE = 3.5
"""Seconds without a card after which a worker counts as gone; it sends one each second."""
MOST = 10_000
"""How many models are remembered that nobody serves now."""
MOST_PLACES = 64
"""Places of one of them that are remembered."""
MOST_HOLDERS = 4096
MOST_LISTED = 50_000
"""Cards, and models on all of them together, that are kept."""


@dataclass(slots=True)
class _Entry:
    card: Card
    heard: float


class Catalog:
    """Hears cards, and answers who serves a model. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._absent_since: dict[str, float] = {}
        self._lasting: set[str] = set()
        self._served_by: dict[str, set[tuple[str, str]]] = {}
        """For each model that nobody serves now, who did: nodes, and names of engines there."""
        self.nodes = Nodes(clock, self._workers)
        self._unprovided_since = clock()
        self.edition = 0
        """Grows with each change in what is served, so that others know when to ask again."""

    def granted(self, card: Card) -> Card:
        """`card` without the models that its node may not serve: it would get no job for them, and
        what it says of them would count."""
        node = self.nodes.registered.get(card.node)
        if node is None or not node.models:
            return card
        return replace(card, models=tuple(each for each in card.models if node.allows(each.id)))

    def hear(self, card: Card) -> bool:
        """False if so many cards are here that this one has no room."""
        before = self._entries.get(card.holder)
        more = len(card.models) - (0 if before is None else len(before.card.models))
        if (before is None or more > 0) and not self._has_room(more):
            return False
        self._entries[card.holder] = _Entry(card, self._clock())
        if card.role != Role.FALLBACK:
            for model in card.models:
                self._absent_since.pop(model.id, None)
                self._served_by.pop(model.id, None)
        if before is None or before.card.models != card.models:
            self.edition += 1
            if before is not None:
                self._missed(before)  # its card may have fewer models now
            if card.role != Role.FALLBACK:
                self.nodes.came(card)
        elif (before.card.labels, before.card.draining) != (card.labels, card.draining):
            self.edition += 1
        return True

    def _has_room(self, models: int) -> bool:
        """Whoever has a worker's login may send cards of as many workers as he likes."""
        listed = sum(len(entry.card.models) for entry in self._entries.values())
        return len(self._entries) < MOST_HOLDERS and listed + models <= MOST_LISTED

    def know(self, model: str, *, lasting: bool = False) -> None:
        """`model` exists, as a route or a consumer names it, even if nobody serves it now.
        `lasting`: it is never forgotten."""
        if lasting:
            self._lasting.add(model)
        # A limit, as a worker's card may name models without end.
        if not self.serves(model) and len(self._absent_since) < MOST:
            self._absent_since.setdefault(model, self._clock())

    def absentees(self) -> list[str]:
        """The models that nobody serves, and that may be forgotten."""
        return [m for m in self._absent_since if m not in self._lasting and not self.serves(m)]

    def forget_model(self, model: str) -> None:
        """There is no such model any more, unless somebody serves it."""
        if self._absent_since.pop(model, None) is not None:
            self._served_by.pop(model, None)
            self.edition += 1

    def enroll(self, nodes: Mapping[str, registry.Node]) -> None:
        """These have joined, by name, and their operator says so of them."""
        if nodes != self.nodes.registered:  # all are read again now and then
            self.nodes.enroll(nodes)
            self.edition += 1

    def forget(self, holder: str) -> None:
        if entry := self._entries.pop(holder, None):
            self.edition += 1
            self._missed(entry)

    def expire(self) -> list[str]:
        """Drop the holders whose cards stopped coming. Returns their ids."""
        limit = self._clock() - STALE
        gone = [holder for holder, entry in self._entries.items() if entry.heard < limit]
        for holder in gone:
            self.forget(holder)
        return gone

    def refresh(self) -> None:
        """Start all clocks anew: this process did not hear the cards that came meanwhile."""
        now = self._clock()
        for entry in self._entries.values():
            entry.heard = now
        for model in self._absent_since:
            self._absent_since[model] = now
        self.nodes.refresh()
        self._unprovided_since = now

    def cards(self) -> list[Card]:
        """Of all who are here."""
        return [entry.card for entry in self._entries.values()]

    def heard(self, holder: str) -> float:
        entry = self._entries.get(holder)
        return entry.heard if entry else 0.0

    def at(self, server: str, client: int) -> list[str]:
        """The holders that say that they are behind a connection: one of them may lie."""
        cards = (entry.card for entry in self._entries.values())
        return [card.holder for card in cards if (card.server, card.client) == (server, client)]

    def serves(self, model: str) -> bool:
        return any(served.id == model for _, served in self._served())

    def absent(self, model: str) -> float:
        """Seconds for which nobody has served `model`; 0.0 if somebody does."""
        since = self._absent_since.get(model)
        return 0.0 if since is None or self.serves(model) else self._clock() - since

    def is_starting(self, model: str) -> bool:
        """Whether an engine that served `model` last says that it is starting."""
        places = self._served_by.get(model, ())
        return bool(places) and any(
            (entry.card.node, engine.name) in places and engine.state == "starting"
            for entry in self._entries.values()
            for engine in entry.card.engines
        )

    def knows(self, model: str) -> bool:
        return model in self._absent_since or self.serves(model)

    def provides(self, model: str) -> bool:
        """Whether a fallback runs that has a provider for `model`."""
        return any(served.id == model for _, served in self._served(paid=True))

    def resumes(self, model: str, endpoint: str) -> bool:
        """Whether one of the providers of `model` can continue an answer that was begun."""
        return any(resuming(endpoint) in served.features for served in self.providing(model))

    def workers_resume(
        self, model: str, endpoint: str, nodes: frozenset[str] | None = None
    ) -> bool:
        """Whether each engine of `model` can continue an answer that was begun: any of them may get
        the job. `nodes`: only of these."""
        return self._all_have(model, resuming(endpoint), nodes)

    def thoughts_resume(
        self, model: str, endpoint: str, nodes: frozenset[str] | None = None
    ) -> bool:
        """Whether each engine of `model` can continue an answer that has thoughts."""
        return self._all_have(model, resuming_thoughts(endpoint), nodes)

    def _all_have(self, model: str, feature: str, nodes: frozenset[str] | None) -> bool:
        found = self.serving(model, nodes)
        return bool(found) and all(feature in served.features for served in found)

    def unprovided(self) -> float:
        """Seconds for which no fallback has run; 0.0 if one runs."""
        if any(entry.card.role == Role.FALLBACK for entry in self._entries.values()):
            return 0.0
        return self._clock() - self._unprovided_since

    def providing(self, model: str) -> list[ServedModel]:
        """What each provider of `model` says of it."""
        return [served for _, served in self._served(paid=True) if served.id == model]

    def paid(self) -> dict[str, list[tuple[Card, ServedModel]]]:
        """Models that providers have, each with those providers."""
        return self._places(paid=True)

    def models(self) -> dict[str, list[tuple[Card, ServedModel]]]:
        """Models that workers serve, each with the places."""
        return self._places(paid=False)

    def holders(self, model: str, lane: str = "") -> set[str]:
        """The workers that serve a model: if the lane is one of a node, those of that node."""
        node = subjects.node_of(lane)
        return {
            card.holder
            for card, served in self._served()
            if served.id == model and node in ("", card.node)
        }

    def serving(self, model: str, nodes: frozenset[str] | None = None) -> list[ServedModel]:
        """What each live engine of `model` says of it. `nodes`: only of these."""
        return [
            served
            for card, served in self._served()
            if served.id == model and (nodes is None or card.node in nodes)
        ]

    def digest(self, model: str, holder: str, engine: str) -> str:
        """What one engine says that the weights of `model` are; "" if it does not tell."""
        entry = self._entries.get(holder)
        served = entry.card.models if entry is not None else ()
        return next((s.digest for s in served if (s.id, s.engine) == (model, engine)), "")

    def slots(self, model: str, lane: str = "") -> int:
        """How many requests for `model` workers, or else providers, work on at once: if the lane is
        one of a node, those of that node."""
        if node := subjects.node_of(lane):
            return sum(served.slots for served in self.serving(model, frozenset({node})))
        return sum(served.slots for served in self.serving(model) or self.providing(model))

    def able(self, feature: str, sense: str = "", nodes: frozenset[str] | None = None) -> list[str]:
        """The live models that have the endpoint `feature` and, at the same place, this `sense`: a
        whisper hears, but does not chat. `nodes`: only on these."""
        return sorted(
            {
                served.id
                for card, served in self._served()
                if served.has(feature)
                and (not sense or sense in served.modalities)
                and (nodes is None or card.node in nodes)
            }
        )

    def known(self) -> list[str]:
        return sorted({*self._absent_since, *self.models()})

    def _workers(self) -> Iterable[Card]:
        return (e.card for e in self._entries.values() if e.card.role != Role.FALLBACK)

    def _places(self, *, paid: bool) -> dict[str, list[tuple[Card, ServedModel]]]:
        found: dict[str, list[tuple[Card, ServedModel]]] = {}
        for card, served in self._served(paid=paid):
            found.setdefault(served.id, []).append((card, served))
        return found

    def _served(self, *, paid: bool = False) -> Iterator[tuple[Card, ServedModel]]:
        """What workers serve, or else providers, each with the card that says so."""
        for entry in self._entries.values():
            if (entry.card.role == Role.FALLBACK) is paid:
                yield from ((entry.card, served) for served in entry.card.models)

    def _missed(self, entry: _Entry) -> None:
        if entry.card.role == Role.FALLBACK:
            self._unprovided_since = self._clock()
            return
        self.nodes.left(entry.card)
        for model in entry.card.models:
            self.know(model.id)
            if model.id in self._absent_since:
                place = entry.card.node, model.engine
                places = self._served_by.setdefault(model.id, set())
                if len(places) < MOST_PLACES:
                    places.add(place)

"""What each model has: who holds its jobs, slots, and what waits. Pure; for all who show it."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.survey import Survey
from schemas import subjects
from schemas.frames import Role
from schemas.jetstream.queues import Queue
from schemas.nodes import Card


@dataclass(frozen=True, slots=True)
class Served:
    """One queue, which is that of a model and a lane, and who works on it. `holders`: processes
    that take its jobs; `slots`: those of their engines, of which `busy` are taken; `dead`: dead
    letters of the model."""

    queue: Queue
    holders: int
    slots: int
    busy: int
    dead: int


def served(survey: Survey) -> list[Served]:
    """By model, the interactive lane first. Other lanes are there once they have jobs: most have
    none, ever."""
    workers = [card for card in survey.cards if card.role != Role.FALLBACK]
    models = {model.id for card in workers for model in card.models}
    empty = [  # served, and the broker has neither a consumer nor a job of them yet
        Queue(model, subjects.INTERACTIVE, 0, 0, 0, None, 0, served=False)
        for model in models - {queue.model for queue in survey.queues}
    ]
    shown = [each for each in survey.queues if each.depth or not _is_special(each.lane)]
    order = sorted([*shown, *empty], key=lambda q: (q.model, q.lane != subjects.INTERACTIVE))
    return [_of(survey, queue) for queue in order]


def pace(card: Card, engine: str) -> str:
    """How fast an engine answers now: of several models the fastest."""
    models = [each for each in card.models if each.engine == engine]
    if tokens := [each.token_us for each in models if each.token_us]:
        return f"{min(tokens) / 1000:g} ms/token"
    if requests := [each.request_us for each in models if each.request_us]:
        return f"{min(requests) / 1e6:g} s/request"
    return "–"


def _is_special(lane: str) -> bool:
    return lane == subjects.BATCH or subjects.is_pinned(lane)


def _of(survey: Survey, queue: Queue) -> Served:
    paid = queue.lane == subjects.CLOUD
    holders = [card for card in survey.cards if (card.role == Role.FALLBACK) == paid]
    holders = [card for card in holders if subjects.is_for(queue.lane, card.node)]
    cards = [card for card in holders if any(m.id == queue.model for m in card.models)]
    engines = [engine for card in cards for engine in card.serving(queue.model)]
    slots, busy = sum(each.slots for each in engines), sum(each.busy for each in engines)
    return Served(queue, len(cards), slots, busy, survey.dead.get(queue.model, 0))

"""Which node gets a job that several may have, but not all: the one that should begin it first.

Such a job waits in the lane of one node. If that node does not take it while another could, or is
gone, the job is moved to the lane of the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ingress.jobs.fair import Queues
from ingress.jobs.ticket import Ticket
from ingress.models import places
from ingress.models.pins import Pin
from ingress.models.places import LATER, Place
from schemas import subjects
from schemas.errors import NoWorker

PATIENCE = 1.0
"""Seconds that a node has to take a job before others are looked at."""

Places = Callable[[str, Pin], Sequence[Place]]


class Placement:
    """`find`: the nodes that a pin allows, for a model."""

    def __init__(self, find: Places, queues: Queues) -> None:
        self._find = find
        self._queues = queues

    def lane(self, model: str, pin: Pin, having: Sequence[str] = ()) -> str:
        """The lane for a new job. `having`: nodes that have its prompt in a cache, the best first.
        Raises NoWorker if none of its nodes is known any more."""
        found = self._find(model, pin)
        if not found:
            raise NoWorker(f"{places.unserved(model, ())}. Try again later.", retry_after=LATER)
        serving = places.serving(found)
        for node in having:
            if any(each.node == node and self._free(model, each) > 0 for each in serving):
                return subjects.pinned(node)
        return self._best(model, serving or found)

    def better(self, ticket: Ticket, pin: Pin, now: float) -> str:
        """The lane to which a job that waits is to be moved, or ""."""
        job, times = ticket.job, ticket.times
        if pin.name or not subjects.is_pinned(job.lane) or not times.may_look(now):
            return ""
        found = places.serving(self._find(job.model, pin))
        others = [each for each in found if not subjects.is_for(job.lane, each.node)]
        if len(others) == len(found):  # its own does not serve the model now
            return self._best(job.model, others) if others else ""
        if now - max(times.freed, times.posted) < PATIENCE:
            return ""
        free = [each for each in others if self._free(job.model, each) > 0]
        return self._best(job.model, free) if free else ""

    def absent(self, model: str, pin: Pin) -> float:
        """Seconds for which none of the nodes has served the model."""
        return places.absent(self._find(model, pin))

    def why(self, model: str, pin: Pin) -> str:
        """Why nobody takes a job."""
        return places.unserved(model, self._find(model, pin))

    def _best(self, model: str, found: Sequence[Place]) -> str:
        """The fastest that is free, and of equals the one with the most free slots; if none is, the
        one with the fewest that wait. Then by chance, as other ingresses choose, too."""
        if free := [each for each in found if self._free(model, each) > 0]:
            first = min(each.rank for each in free)
            found = [each for each in free if each.rank == first]
        most = max(self._free(model, each) for each in found)
        best = [each for each in found if self._free(model, each) == most]
        return subjects.pinned(random.choice(best).node)  # noqa: S311 - no secret

    def _free(self, model: str, place: Place) -> int:
        """Slots that are free there, less the jobs that wait for it here."""
        queue = self._queues.of(model, subjects.pinned(place.node))
        # A card may be a second old, so it may not have the jobs that were sent there since.
        return place.slots - max(place.busy + len(queue), queue.open)

"""Whose answers may be taken for those of a request: of the weights that could answer it now."""

from __future__ import annotations

from ingress.jobs.ticket import Ticket
from ingress.models import places
from ingress.models.catalog import Catalog
from ingress.models.locality import CLOUD, LOCAL
from ingress.models.pins import Pin
from ingress.models.routes import Plan

PROVIDER = "provider"
"""Stands for the weights of whoever a route's providers are."""
_KEPT = 1000


class Digests:
    """Kept until what is served changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._edition = -1
        self._known: dict[tuple[str, str, Pin | None], frozenset[str]] = {}

    def of(self, plan: Plan) -> frozenset[str]:
        """The digests of all who may have a request; empty if none of them tells his."""
        if self._edition != self._catalog.edition or len(self._known) >= _KEPT:
            self._edition = self._catalog.edition
            self._known.clear()
        place = plan.model, plan.reach, plan.pin
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._found(plan)
        return found

    def _found(self, plan: Plan) -> frozenset[str]:
        found = set[str]()
        if plan.reach != CLOUD:
            nodes = None
            if plan.pin is not None:
                there = places.serving(self._catalog.nodes.places(plan.model, plan.pin))
                nodes = frozenset(each.node for each in there)
            found |= {served.digest for served in self._catalog.serving(plan.model, nodes)}
        if plan.reach != LOCAL:
            found.add(PROVIDER)
        return frozenset(found - {""})

    def by(self, ticket: Ticket) -> str:
        """The digest of who answered; "" if that is not known, or if there were several."""
        if ticket.received.resuming or len(ticket.custody.lost) > 0:
            return ""
        if ticket.received.paid:
            return PROVIDER
        claim = ticket.custody.latest
        if claim is None:
            return ""
        return self._catalog.digest(ticket.job.model, claim.holder, claim.engine)

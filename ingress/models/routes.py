"""From the model that a client names to the model that is served, with its deadlines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ingress.models import fields
from ingress.models.catalog import Catalog
from ingress.models.fields import Ability
from ingress.models.locality import ANY, CLOUD, LOCAL, narrowed
from schemas import settings
from schemas.api.endpoints import Endpoint
from schemas.errors import InvalidRequest, ModelNotFound


@dataclass(frozen=True, slots=True)
class Plan:
    """`name`: as the client says it. Deadlines in seconds from the request's arrival. `reach`: one
    of LOCAL, ANY and CLOUD. `mixed`: others of its model may leave the house, even if this may not.
    `hedge`: seconds a worker has for the first byte before a provider is asked, too; 0.0: no end.
    `resumes`: a provider goes on from an answer that a worker began. `ability`: what those can do
    that may serve it.
    """

    name: str
    model: str
    claim: float
    first_token: float
    total: float
    reach: str = LOCAL
    mixed: bool = False
    hedge: float = 0.0
    resumes: bool = False
    ability: Ability = field(default=fields.UNKNOWN, compare=False)

    @property
    def paid(self) -> bool:
        """Whether it is for providers alone."""
        return self.reach == CLOUD

    def honours(self, request: Mapping[str, Any]) -> bool:
        """Whether all of a request is known, and nothing in it would be lost, as is usual: then
        `ability` has nothing to say of it."""
        able = self.ability
        known = able.known is None or able.known.issuperset(request)
        return known and able.open and able.tops.isdisjoint(request)


class Routes:
    """Keeps the plans that it has made until another card comes."""

    def __init__(self, config: settings.Settings, catalog: Catalog) -> None:
        self._defaults = config.routes
        self._named = {route.name: route for route in config.route}
        self._catalog = catalog
        self._cloudy = {route.served for route in config.route if route.cloud}
        self._paid = frozenset(route.name for route in config.route if route.cloud)
        self._edition = -1
        self._plans: dict[tuple[str | None, str], Plan] = {}
        self._abilities: dict[tuple[str, str, bool], Ability] = {}
        for route in config.route:
            catalog.know(route.served)

    def plan(
        self, name: str | None, endpoint: Endpoint, wish: str = "", local: bool = False
    ) -> Plan:
        """`wish` and `local`: what header and key say of where it may go (`locality`). Raises
        ModelNotFound, with the names that are known; InvalidRequest, NoProvider."""
        if self._edition != self._catalog.edition:
            self._edition = self._catalog.edition
            self._plans.clear()
            self._abilities.clear()
        found = self._plans.get((name, endpoint.word))
        if found is None:
            found = self._plans[name, endpoint.word] = self._planned(name, endpoint)
        reach = narrowed(found.reach, found.name, wish, local) if wish or local else found.reach
        if reach == ANY and not found.claim and self._only_provided(found.model):
            reach = CLOUD
        if reach == found.reach:
            return found
        able = self._ability(found.model, endpoint, reach)
        return replace(found, reach=reach, ability=able)

    def _planned(self, name: str | None, endpoint: Endpoint) -> Plan:
        asked = name or self._unnamed(endpoint)
        route, model = self._named.get(asked), self._served(asked)
        if route is None and not self._catalog.knows(model):
            raise ModelNotFound(self._unknown(name), param="model")
        reach = self._reach(route)
        return Plan(
            asked,
            model,
            _first(route.claim if route else None, self._defaults.claim),
            _first(route.first_token if route else None, self._defaults.first_token),
            _first(route.total if route else None, self._defaults.total),
            reach,
            model in self._cloudy,
            route.hedge_after if route else 0.0,
            self._catalog.resumes(model, endpoint.path),
            self._ability(model, endpoint, reach),
        )

    def _ability(self, model: str, endpoint: Endpoint, reach: str) -> Ability:
        place = model, endpoint.word, reach == CLOUD
        found = self._abilities.get(place)
        if found is None:
            found = self._abilities[place] = fields.ability(self._catalog, *place)
        return found

    def _only_provided(self, model: str) -> bool:
        """Whether no worker serves it now, and a provider does."""
        return not self._catalog.serves(model) and self._catalog.provides(model)

    def _reach(self, route: settings.Route | None) -> str:
        """A route that names no model of ours, and that no worker serves, is for providers."""
        if route is None or not route.cloud:
            return LOCAL
        return ANY if route.model or self._catalog.serves(route.name) else CLOUD

    def names(self) -> list[str]:
        """Every name that a request may use."""
        return sorted({*self._named, *self._catalog.known()})

    def aliases(self) -> dict[str, str]:
        return {name: route.served for name, route in self._named.items()}

    def cloudy(self) -> frozenset[str]:
        """Names whose requests may leave the house."""
        return self._paid

    def _unnamed(self, endpoint: Endpoint) -> str:
        """The name that is meant by a request without one. Raises ModelNotFound, InvalidRequest."""
        default, able = self._defaults.default, self._catalog.able(endpoint.word)
        if not endpoint.sole_model:
            return default or next(iter(able or sorted(self._catalog.models())), "")
        if self._served(default) in able:
            return default
        if not able:
            why = f"No model was named, and no engine that runs now has {endpoint.path}."
            raise ModelNotFound(why, param="model")
        if len(able) > 1:
            have = f"These have {endpoint.path}: {', '.join(able)}."
            raise InvalidRequest(f"Missing required parameter: 'model'. {have}", param="model")
        return able[0]

    def _served(self, name: str) -> str:
        route = self._named.get(name)
        return route.served if route else name

    def _unknown(self, name: str | None) -> str:
        known = ", ".join(self.names()) or "none yet: start a worker"
        if name:
            return f"The model {name!r} does not exist. Known models: {known}."
        return f"No model was named, and there is no default. Known models: {known}."


def _first(own: float | None, default: float) -> float:
    return default if own is None else own

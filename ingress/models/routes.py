"""Finds the model that is served for the one that a client names, with its deadlines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ingress.models import fields, places
from ingress.models.catalog import Catalog
from ingress.models.fields import Ability
from ingress.models.locality import ANY, CLOUD, LOCAL, narrowed, of_pinned
from ingress.models.pins import Pin
from schemas import settings
from schemas.api.endpoints import Endpoint
from schemas.errors import InvalidRequest, ModelNotFound
from schemas.globs import Globs, may_use
from schemas.keys import KeyPolicy
from schemas.settings.cloud import EVERY

_KEPT = 1000
"""Plans that are kept. There is a limit, as clients can make up names without end."""


LENIENT = "x-headrace-lenient"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request for a model is served. Deadlines are seconds from the request's arrival.

    `name`: the model as the client names it. `reach`: one of LOCAL, ANY and CLOUD. `mixed`: other
    requests for the model may go to providers, even if this one may not. `hedge`: seconds that a
    worker has for the first byte before a provider is asked, too; 0.0: never. `resumes`: a provider
    can continue an answer that a worker began; `workers_resume`: every worker can;
    `thoughts_resume`: also one with thoughts. `route`: the name of its route, if the client wrote
    another. `hold_back`: streams that nobody could continue are held back until they have ended.
    `lenient`: a field without effect is no error. `listed`: the name by which lists of models have
    it. `ability`: what can be done by those who may serve the request. `pin`: the nodes that it is
    for; None: any. `cache`: whether its answers are kept, if its route says so.
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
    workers_resume: bool = False
    thoughts_resume: bool = False
    route: str = ""
    hold_back: bool = False
    lenient: bool = False
    listed: str = field(default="", compare=False)
    ability: Ability = field(default=fields.UNKNOWN, compare=False)
    pin: Pin | None = None
    cache: bool | None = None

    @property
    def paid(self) -> bool:
        """Whether the request is for providers alone."""
        return self.reach == CLOUD

    def is_lenient(self, headers: Mapping[str, str], policy: KeyPolicy) -> bool:
        """Whether a field without effect is no error. `headers`, `policy`: of the request and of
        its key."""
        said = headers.get(LENIENT, "").lower()
        return said == "true" or (said != "false" and (policy.lenient or self.lenient))

    def honours(self, request: Mapping[str, Any], signed: bool = False) -> bool:
        """Whether all fields of a request are known and have an effect. This is the usual case, and
        a quick test that saves the closer look of `ability`. `signed`: see `Ability.lost`."""
        able = self.ability
        if signed:
            return False
        known = able.known is None or able.known.issuperset(request)
        return known and able.open and able.tops.isdisjoint(request)


class Routes:
    """Makes plans, and keeps them until the catalog changes."""

    def __init__(self, config: settings.Settings, catalog: Catalog) -> None:
        self._defaults = config.routes
        self._lenient = config.ingress.lenient
        self._named = {route.name: route for route in config.route}
        self._catalog = catalog
        self._cloudy = {route.served for route in config.route if route.cloud}
        self._paid = frozenset(route.name for route in config.route if route.cloud)
        self._edition = -1
        self._plans: dict[tuple[str | None, str, Globs], Plan] = {}
        self._for_nodes: dict[tuple[str | None, str, str, bool, Globs, Pin], Plan] = {}
        """Plans for requests that are for some nodes."""
        self._abilities: dict[tuple[str, str, bool], Ability] = {}
        for route in config.route:
            catalog.know(route.served, lasting=True)

    def plan(
        self,
        name: str | None,
        endpoint: Endpoint,
        wish: str = "",
        local: bool = False,
        globs: Globs = (),
        pin: Pin | None = None,
    ) -> Plan:
        """The plan for the model `name`. `wish` and `local`: what header and key say of where the
        request may go (`locality`). `globs`: the names that the key may use; no others exist for
        it. `pin`: the nodes that may have it. Raises ModelNotFound, NodeNotFound, NoWorker,
        InvalidRequest, NoProvider."""
        if pin is not None:
            return self._pinned(name, endpoint, wish, local, globs, pin)
        found = self._usual(name, endpoint, globs)
        reach = narrowed(found.reach, found.name, wish, local) if wish or local else found.reach
        # A claim deadline of 0 means that no worker is waited for.
        if reach == ANY and not found.claim and self._only_provided(found.model):
            reach = CLOUD
        if reach == found.reach:
            return found
        able = self._ability(found.model, endpoint, reach)
        return replace(found, reach=reach, ability=able)

    def _pinned(
        self,
        name: str | None,
        endpoint: Endpoint,
        wish: str,
        local: bool,
        globs: Globs,
        pin: Pin,
    ) -> Plan:
        """As `plan`, for a request that is for some nodes. If it says that it may go to a provider
        all the same, none of them needs to be there."""
        asked = name, endpoint.word, wish, local, globs, pin
        if self._edition == self._catalog.edition and (kept := self._for_nodes.get(asked)):
            return kept
        found = self._usual(name or self._unnamed_at(pin, endpoint, globs), endpoint, globs)
        reach = of_pinned(found.reach, found.name, wish, local, pin)
        model, catalog = found.model, self._catalog
        where = catalog.nodes.places(model, pin)
        nodes = frozenset(each.node for each in places.serving(where))
        if not nodes and not (where and reach == ANY and catalog.provides(model)):
            known = sorted(each for each in catalog.nodes.known() if may_use(each, pin.globs))
            about = where, known, partial(usable, globs=globs)
            raise places.fault(pin, found.name, *about, incomplete=catalog.nodes.incomplete)
        able = fields.ability(catalog, model, endpoint.word, nodes=nodes)
        if len(self._for_nodes) >= _KEPT:
            self._for_nodes.clear()
        self._for_nodes[asked] = plan = replace(
            found,
            reach=reach,
            workers_resume=catalog.workers_resume(model, endpoint.path, nodes),
            thoughts_resume=catalog.thoughts_resume(model, endpoint.path, nodes),
            pin=pin,
            ability=able,
        )
        return plan

    def _unnamed_at(self, pin: Pin, endpoint: Endpoint, globs: Globs) -> str | None:
        """The model for a request that names none, if one of those there can be meant."""
        nodes = self._catalog.nodes.known().items()
        there = frozenset(node for node, has in nodes if pin.allows(node, has))
        able = usable(self._catalog.able(endpoint.word, nodes=there), globs)
        default = self._defaults.default
        if default and self._route(default).served in able:
            return default
        return able[0] if able and (len(able) == 1 or not endpoint.sole_model) else None

    def _usual(self, name: str | None, endpoint: Endpoint, globs: Globs) -> Plan:
        """The plan for a request of a key without further wishes."""
        if self._edition != self._catalog.edition:
            self._edition = self._catalog.edition
            self._plans.clear()
            self._for_nodes.clear()
            self._abilities.clear()
        found = self._plans.get((name, endpoint.word, globs))
        if found is None:
            if len(self._plans) >= _KEPT:
                self._plans.clear()
            found = self._plans[name, endpoint.word, globs] = self._planned(name, endpoint, globs)
        return found

    def _planned(self, name: str | None, endpoint: Endpoint, globs: Globs) -> Plan:
        asked = name or self._unnamed(endpoint, globs)
        meant = self.meant(asked)
        listed = asked if meant == EVERY else meant
        if not meant or not may_use(listed, globs):
            raise unknown(name, usable(self.names(), globs))
        route = self._route(meant)
        model, reach = route.served, self._reach(route)
        return Plan(
            asked or model,
            model,
            _first(route.claim, self._defaults.claim),
            _first(route.first_token, self._defaults.first_token),
            _first(route.total, self._defaults.total),
            reach,
            model in self._cloudy,
            route.hedge_after,
            self._catalog.resumes(model, endpoint.path),
            self._catalog.workers_resume(model, endpoint.path),
            self._catalog.thoughts_resume(model, endpoint.path),
            meant if meant in self._named and meant != asked else "",
            route.hold_back,
            route.lenient or self._lenient,
            listed,
            self._ability(model, endpoint, reach),
            cache=route.cache,
        )

    def _ability(self, model: str, endpoint: Endpoint, reach: str) -> Ability:
        place = model, endpoint.word, reach == CLOUD
        found = self._abilities.get(place)
        if found is None:
            found = self._abilities[place] = fields.ability(self._catalog, *place)
        return found

    def _only_provided(self, model: str) -> bool:
        """Whether no worker serves the model now, but a provider does."""
        return not self._catalog.serves(model) and self._catalog.provides(model)

    def _reach(self, route: settings.Route) -> str:
        """A route of providers that names no local model, and whose name no worker serves, is for
        providers alone."""
        if not route.cloud:
            return LOCAL
        return ANY if route.model or self._catalog.serves(route.name) else CLOUD

    def meant(self, name: str) -> str:
        """The route or model that a client means by `name`: the one with this name, else one whose
        name is only spelled differently, else the route for every name, else ""."""
        if name in self._named or self._catalog.knows(name):
            return name
        alike, every = _plain(name), EVERY if EVERY in self._named else ""
        return next((each for each in self.names() if _plain(each) == alike), every)

    def names(self) -> list[str]:
        """Every name that is known."""
        return sorted({*self._named, *self._catalog.known()} - {EVERY})

    def aliases(self) -> dict[str, str]:
        return {name: route.served for name, route in self._named.items()}

    def cloudy(self) -> frozenset[str]:
        """Names whose requests may go to providers."""
        return self._paid

    def _unnamed(self, endpoint: Endpoint, globs: Globs) -> str:
        """The model for a request that names none. Raises ModelNotFound, InvalidRequest."""
        default = self._defaults.default if may_use(self._defaults.default, globs) else ""
        able = usable(self._catalog.able(endpoint.word), globs)
        if default and (not endpoint.sole_model or self._route(default).served in able):
            return default
        if not able and (endpoint.sole_model or self._catalog.models()):
            why = f"No model was named, and no engine that runs now has {endpoint.path}."
            raise ModelNotFound(why, param="model")
        if len(able) > 1 and endpoint.sole_model:
            have = f"These have {endpoint.path}: {', '.join(able)}."
            raise InvalidRequest(f"Missing required parameter: 'model'. {have}", param="model")
        return next(iter(able), "")

    def _route(self, name: str) -> settings.Route:
        """The route of this name, or one that leads to the model of this name and sets nothing."""
        # Not validated: the name of a model may be longer than that of a route.
        return self._named.get(name) or settings.Route.model_construct(name=name)


def usable(names: Iterable[str], globs: Globs) -> list[str]:
    return [name for name in names if may_use(name, globs)]


def unknown(name: str | None, names: Iterable[str]) -> ModelNotFound:
    """The error for a model that does not exist; `names`: those that do."""
    why = (
        f"The model {name!r} does not exist"
        if name
        else "No model was named, and there is no default"
    )
    known = ", ".join(names) or "none yet: start a worker"
    return ModelNotFound(f"{why}. Known models: {known}.", param="model")


def _plain(name: str) -> str:
    """A name without the parts that only some clients write. For Ollama's, the tag "latest" stands
    for none."""
    bare = name.lower().removeprefix("openai/").removeprefix("models/")
    return bare.removesuffix(":latest").removesuffix(".gguf")


def _first(own: float | None, default: float) -> float:
    return default if own is None else own

"""Which jobs may go to which providers, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from fallback.credits.entries import MICRO
from schemas import settings
from schemas.jobs import Job


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider that may take a job. `model`: the model's name there; `worst`: the most that the
    job can cost there (micro-units)."""

    provider: str
    model: str
    worst: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """`choices`: in the order of the route. `passed`: why the route's other providers are not among
    them."""

    choices: tuple[Choice, ...]
    passed: tuple[str, ...]

    @property
    def why(self) -> str:
        return "; ".join(self.passed) or "its route names none"

    def within(self, credits: int) -> Chosen:
        """Without the choices that may cost more than `credits`."""
        return Chosen(tuple(each for each in self.choices if each.worst <= credits), self.passed)

    def ordered(self, lost_hints: Callable[[Choice], int]) -> Chosen:
        """Those that honour more of the request's hints come first."""
        return Chosen(tuple(sorted(self.choices, key=lost_hints)), self.passed)

    @property
    def dearest(self) -> int:
        return max((each.worst for each in self.choices), default=0)


class CloudRoutes:
    """The routes that have providers, by the name that clients use."""

    def __init__(self, routes: Iterable[settings.Route]) -> None:
        self._named = {route.name: route for route in routes if route.cloud}

    def replace(self, routes: Iterable[settings.Route], providers: set[str]) -> bool:
        """Take these routes, if they have the same models and no other `providers`; else False."""
        new = CloudRoutes(routes)
        used = {name for route in new.all() for name, _ in route.provider_models}
        if new.models() != self.models() or not used <= providers:
            return False
        self._named = new._named
        return True

    def of(self, job: Job) -> settings.Route | None:
        """The route by which the job may go to a provider; None if it may not."""
        # `route` is empty if the client wrote the route's own name.
        return None if job.local else self._named.get(job.route or job.asked)

    def all(self) -> list[settings.Route]:
        return list(self._named.values())

    def models(self) -> list[str]:
        return sorted({route.served for route in self._named.values()})


def due(route: settings.Route | None, job: Job, now_ms: float) -> bool:
    """Whether a job in hand may go to a provider, though its ingress has not called for one: its
    claim deadline is over. The ingress decides in the end, when it grants or refuses the claim."""
    return route is not None and now_ms >= job.claim_by


def choose(
    route: settings.Route,
    worst: Callable[[str, str], int | str],
    limit: int,
    jobs: int = 1,
) -> Chosen:
    """The route's providers that fit. `worst`: the worst case (micro-units) of one job at a
    provider and model, or why the job cannot go there. `limit`: micro-units for all `jobs` of the
    request; 0 means no limit."""
    choices, passed = [], []
    for provider, model in route.provider_models:
        found = worst(provider, model)
        if isinstance(found, str):
            passed.append(f"{provider}: {found}")
        elif limit and found * jobs > limit:
            most = found * jobs
            passed.append(f"{provider}: it may cost {most} micro-units, max_price allows {limit}")
        else:
            choices.append(Choice(provider, model, found))
    return Chosen(tuple(choices), tuple(passed))


def micro(amount: Decimal | None) -> int:
    """An amount of the settings in micro-units; settings allow six decimals at most."""
    return int(amount * MICRO) if amount else 0


def money(amount: int, currency: str) -> str:
    """Micro-units as people read them: ``0.000123 USD``."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), MICRO)
    return f"{sign}{whole}.{rest:06d} {currency}"

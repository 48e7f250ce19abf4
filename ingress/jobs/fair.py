"""The order in which the jobs of several tenants are served: start-time fair queuing. Pure.

A tenant's next job has a start tag. The lowest tag is served first, and then the tenant's next job
has the tag plus one job divided by the tenant's weight. So of two tenants that always wait, each
gets slots in proportion to its weight. A tenant that begins to wait gets the lowest tag there is,
or the tag that its last jobs have left it with if that is higher: it is served next, and gets
nothing for the time in which it asked for nothing. Within a tenant, who came first is first.

Each model and lane has a queue of its own (`Queues`). The algorithm: P. Goyal, H. M. Vin, H. Cheng,
"Start-time Fair Queuing" (SIGCOMM 1996).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from typing import NamedTuple, Protocol

from schemas import subjects
from schemas.jobs import Job

SPARE = 64
"""Tenants that are remembered before idle ones are looked for."""
BEHIND = 1.0
"""How far behind what was served a newcomer is put at most, where a lower tag is known of that is
late, or waits for long: else it would be owed the turns between."""
TRIES = 32
"""Most jobs that are looked at for one slot."""
NEAR = 1.0
"""How far behind the first job one may be that is preferred to it: one turn."""
_NEAR_TENANTS, _NEAR_JOBS = 16, 4
"""Of how many tenants, and of each how many jobs, such a one is looked for."""


class Tag(NamedTuple):
    """Where a tenant stands in the order; the lowest is first. `known`: among equal starts, one
    that was not served lately is before those that were. `number`: of equal ones, who came first.
    """

    start: float
    known: bool
    number: int


_NONE = Tag(0.0, False, 0)


@dataclass(slots=True)
class _Tenant:
    """`finish`: the start of its next job, if it does not stop to wait. `jobs`: those that wait,
    with the time of arrival; `line` has them in order, and others that have left."""

    name: str
    weight: float = 1.0
    finish: float = 0.0
    tag: Tag = _NONE
    jobs: dict[str, float] = field(default_factory=dict)
    line: list[tuple[float, str]] = field(default_factory=list)

    def first(self) -> str:
        """The job that came first. Needs one that waits."""
        while self.line[0][1] not in self.jobs:
            heapq.heappop(self.line)
        return self.line[0][1]

    def before(self, turn: float) -> int:
        """How many of its jobs start before `turn`, if all are served."""
        return max(0, min(len(self.jobs), ceil((turn - self.tag.start) * self.weight)))

    def in_order(self) -> Iterator[str]:
        yield self.first()
        yield from sorted(self.jobs, key=lambda job: (self.jobs[job], job))[1:]


class FairQueue:
    """The jobs of one model and lane (`name`) that wait at one ingress. `elsewhere`: the lowest tag
    among those that wait at others, as far as is known. `open`: how many were asked for in this
    lane, and are not over: those that wait, and those that have a slot."""

    def __init__(self, name: tuple[str, str] = ("", "")) -> None:
        self.name = name
        self.open = 0
        self.virtual = 0.0
        """The highest start tag that was served."""
        self.elsewhere: float | None = None
        self._tenants: dict[str, _Tenant] = {}
        self._waiting: dict[str, _Tenant] = {}
        """By job: all that wait, apart from `_returned`."""
        self._returned: dict[str, float] = {}
        """Jobs that had a slot and lost it, with their times of arrival. Their tenants have paid
        for the slot, so they are before all others."""
        self._order: list[tuple[Tag, _Tenant]] = []
        """Tenants by tag; an entry counts if it has the tenant's present tag."""
        self._number = count()
        self._passed: set[str] = set()
        """First jobs to which another was preferred: that is done once with each."""
        self._many = SPARE
        """Tenants at which the idle ones are looked for."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._returned)

    def __contains__(self, job: str) -> bool:
        return job in self._waiting or job in self._returned

    def __iter__(self) -> Iterator[str]:
        """All jobs that wait, in no order."""
        yield from self._returned
        yield from self._waiting

    def enter(self, job: str, tenant: str, weight: float, since: float) -> None:
        """`job` waits from now on. `since`: when it came."""
        if job in self:
            return
        found = self._tenant(tenant)
        found.weight = weight
        if not found.jobs:
            lowest = self._lowest()
            self._place(found, max(lowest, found.finish), known=found.finish > lowest)
        found.jobs[job] = since
        heapq.heappush(found.line, (since, job))
        self._waiting[job] = found

    def give_back(self, job: str, since: float) -> None:
        """`job` had a slot and lost it, so it waits again."""
        if job not in self:
            self._returned[job] = since

    def leave(self, job: str) -> bool:
        """`job` does not wait any more, and had no slot. False if it did not wait."""
        self._passed.discard(job)
        if self._returned.pop(job, None) is not None:
            return True
        tenant = self._waiting.pop(job, None)
        if tenant is None:
            return False
        self._strike(tenant, job)
        return True

    def serve(self, job: str) -> str | None:
        """`job` has a slot. Returns the tenant that pays for it, if one does."""
        self._passed.discard(job)
        if self._returned.pop(job, None) is not None:
            return None
        tenant = self._waiting.pop(job, None)
        if tenant is None:
            return None
        self.virtual = max(self.virtual, tenant.tag.start)
        tenant.finish = tenant.tag.start + 1 / tenant.weight
        self._place(tenant, tenant.finish, known=True)
        self._strike(tenant, job)
        return tenant.name

    def choose(
        self, fits: Callable[[str], bool], prefers: Callable[[str], bool] | None = None
    ) -> str | None:
        """The first job in the order that `fits`, or one at most a turn behind it that `prefers`
        says yes to. Each job is passed over so once at most."""
        for number, job in enumerate(self._in_order()):
            if fits(job):
                return job if prefers is None else self._preferred(job, fits, prefers)
            if number == TRIES:
                break
        return None

    def _preferred(
        self, first: str, fits: Callable[[str], bool], prefers: Callable[[str], bool]
    ) -> str:
        if first in self._passed or first in self._returned or prefers(first):
            return first
        for job in self._near(self._waiting[first]):
            if job != first and prefers(job) and fits(job):
                self._passed.add(first)
                return job
        return first

    def _near(self, first: _Tenant) -> Iterator[str]:
        """Jobs whose turn is one behind that of `first` at most. Not all, as there may be
        thousands: those at the top of the heaps."""
        last = first.tag.start + NEAR
        tenants = [t for tag, t in self._order[:_NEAR_TENANTS] if t.tag is tag and t.jobs]
        for tenant in sorted(tenants, key=_by_tag):
            top = sorted(each for each in tenant.line[:_NEAR_JOBS] if each[1] in tenant.jobs)
            for at, (_, job) in enumerate(top):
                if tenant.tag.start + at / tenant.weight <= last:
                    yield job

    def head(self) -> tuple[Tag, str] | None:
        """The lowest tag of those that wait, and its tenant; None if no tenant waits."""
        while self._order:
            tag, tenant = self._order[0]
            if tenant.jobs and tenant.tag is tag:
                return tag, tenant.name
            heapq.heappop(self._order)
        return None

    def since(self) -> float | None:
        """When the job came that is next; None if none waits."""
        if self._returned:
            return min(self._returned.values())
        if self.head() is None:
            return None
        tenant = self._order[0][1]
        return tenant.jobs[tenant.first()]

    def part(self, tenant: str) -> float:
        """Of all slots, those that `tenant` gets while it waits."""
        waiting = {each.name: each.weight for each in self._tenants.values() if each.jobs}
        if tenant not in waiting:
            return 1.0
        return waiting[tenant] / sum(waiting.values())

    def positions(self) -> dict[str, int]:
        """The place of each job in the order, from 1, if nobody else comes."""
        found = sorted(self._returned, key=self._returned.__getitem__)
        found += [job for _, job in heapq.merge(*map(_tags, self._tenants.values()))]
        return {job: place for place, job in enumerate(found, 1)}

    def place_of_last(self, tenant: str) -> int:
        """The place in the order of the last job of a tenant that waits. Of jobs that start at the
        same time, its own is the first."""
        found = self._tenants[tenant]
        own = len(found.jobs) - 1
        turn = found.tag.start + own / found.weight
        others = (each.before(turn) for each in self._tenants.values() if each is not found)
        return len(self._returned) + own + sum(others) + 1

    def paid(self, tenant: str, finish: float, virtual: float) -> None:
        """A job of `tenant` got a slot elsewhere, or nobody's did. `finish`: the start of the
        tenant's next one; `virtual`: the highest start tag that was served there."""
        self.virtual = max(self.virtual, virtual)
        if not tenant:
            return
        found = self._tenant(tenant)
        if finish > found.finish:
            found.finish = finish
            if found.jobs and found.tag.start < finish:
                self._place(found, finish, known=True)

    @property
    def returned(self) -> bool:
        """Whether a job waits that is before all others, as it had a slot."""
        return bool(self._returned)

    def finish(self, tenant: str) -> float:
        """The start tag of the tenant's next job, if it does not stop to wait."""
        found = self._tenants.get(tenant)
        return found.finish if found is not None else 0.0

    def _lowest(self) -> float:
        known = self.virtual
        if (head := self.head()) is not None:
            known = min(known, head[0].start)
        if self.elsewhere is not None:
            known = min(known, self.elsewhere)
        return max(known, self.virtual - BEHIND)

    def _in_order(self) -> Iterator[str]:
        yield from sorted(self._returned, key=self._returned.__getitem__)
        if self.head() is None:
            return
        seen = self._order[0][1].first()
        yield seen  # nearly always all that is asked for
        tenants = sorted((each for each in self._tenants.values() if each.jobs), key=_by_tag)
        yield from (job for each in tenants for job in each.in_order() if job != seen)

    def _tenant(self, name: str) -> _Tenant:
        found = self._tenants.get(name)
        if found is None:
            self._forget_idle()
            found = self._tenants[name] = _Tenant(name)
        return found

    def _place(self, tenant: _Tenant, start: float, *, known: bool) -> None:
        tenant.tag = Tag(start, known, next(self._number))
        heapq.heappush(self._order, (tenant.tag, tenant))

    def _strike(self, tenant: _Tenant, job: str) -> None:
        del tenant.jobs[job]
        if not tenant.jobs:
            tenant.line.clear()

    def _forget_idle(self) -> None:
        """Drop tenants that begin anew as others do, once there are many."""
        if len(self._tenants) < self._many:
            return
        lowest = self._lowest()
        idle = [t.name for t in self._tenants.values() if not t.jobs and t.finish <= lowest]
        for name in idle:
            del self._tenants[name]
        self._many = 2 * len(self._tenants) + SPARE


def _by_tag(tenant: _Tenant) -> Tag:
    return tenant.tag


def _tags(tenant: _Tenant) -> list[tuple[float, str]]:
    """The start tags of a tenant's jobs, in order, if all are served."""
    jobs = sorted(tenant.jobs, key=lambda job: (tenant.jobs[job], job))
    return [(tenant.tag.start + at / tenant.weight, job) for at, job in enumerate(jobs)]


class Turns(Protocol):
    """What a ticket says of its turns."""

    def served(self, job: Job) -> None:
        """The job has a slot."""

    def lost(self, job: Job, since: float) -> None:
        """The job had a slot, and waits for another. `since`: when it came."""


class Queues:
    """By model and lane. The lane of providers has none: there the broker's order is kept, as a
    fallback reserves credits before it is told which job it has."""

    def __init__(self) -> None:
        self.changed: Callable[[FairQueue, str | None], None] = untold
        """Hears of each queue that got a job, and of the tenant whose job got a slot."""
        self.elsewhere: Callable[[str, str], int] | None = None
        """How many open jobs of a model and lane other ingresses have, if there are any."""
        self.tenants: dict[tuple[str, str], int] = {}
        """Open jobs of a model and a tenant."""
        self._queues: dict[tuple[str, str], FairQueue] = {}
        self._at: dict[str, FairQueue] = {}
        """Where each job waits."""

    def of(self, model: str, lane: str) -> FairQueue:
        key = model, lane
        found = self._queues.get(key)
        if found is None:
            found = self._queues[key] = FairQueue(key)
        return found

    def opened(self, model: str, lane: str, tenant: str) -> FairQueue:
        """There is one more job, which was asked for in this lane. Returns the lane's queue."""
        key, queue = (model, tenant), self.of(model, lane)
        queue.open += 1
        self.tenants[key] = self.tenants.get(key, 0) + 1
        return queue

    def closed(self, model: str, lane: str, tenant: str) -> None:
        """Such a job is over, or is another lane's from now on."""
        key = model, tenant
        self.of(model, lane).open -= 1
        if (left := self.tenants.get(key, 0) - 1) > 0:
            self.tenants[key] = left
        else:
            self.tenants.pop(key, None)  # tenants come and go

    def __len__(self) -> int:
        """How many jobs wait, for whatever model."""
        return len(self._at)

    def __iter__(self) -> Iterator[tuple[str, str, FairQueue]]:
        """Model, lane and queue of all in which jobs wait."""
        return ((*key, queue) for key, queue in self._queues.items() if len(queue))

    def enter(self, job: Job, weight: float, since: float) -> None:
        """The job waits in its lane from now on, if it is one of workers."""
        if job.lane == subjects.CLOUD:
            self.leave(job.id)
            return
        queue = self.of(job.model, job.lane)
        if self._at.get(job.id) is not queue:
            self.leave(job.id)
            queue.enter(job.id, job.account, weight, since)
            self._at[job.id] = queue
            self.changed(queue, None)

    def leave(self, job: str) -> None:
        """The job does not wait any more."""
        if (queue := self._at.pop(job, None)) is not None:
            queue.leave(job)

    def served(self, job: Job) -> None:
        if (queue := self._at.pop(job.id, None)) is not None:
            self.changed(queue, queue.serve(job.id))

    def lost(self, job: Job, since: float) -> None:
        if job.lane != subjects.CLOUD:
            queue = self._at[job.id] = self.of(job.model, job.lane)
            queue.give_back(job.id, since)


def untold(queue: FairQueue, served: str | None) -> None:
    """While nobody else is to know."""

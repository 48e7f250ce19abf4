"""The order of several tenants' jobs, against what a fair order must hold."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingress.jobs.fair import SPARE, FairQueue, Queues

WEIGHTS = st.floats(0.01, 100)
TENANTS = st.sampled_from("abcd")


class Line:
    """A queue that is served one by one. Jobs are named after their tenants."""

    def __init__(self) -> None:
        self.queue = FairQueue()
        self._count = count(1)

    def add(self, tenant: str, jobs: int = 1, weight: float = 1.0) -> list[str]:
        named = [f"{tenant}{next(self._count)}" for _ in range(jobs)]
        for job in named:
            self.queue.enter(job, tenant, weight, float(job[1:]))
        return named

    def next(self) -> str:
        job = self.queue.choose(lambda job: True)
        assert job is not None
        self.queue.serve(job)
        return job

    def served(self, jobs: int) -> str:
        return "".join(self.next()[0] for _ in range(jobs))


@pytest.fixture
def line() -> Line:
    return Line()


def test_one_tenant_is_served_in_the_order_of_arrival(line: Line) -> None:
    added = line.add("a", 5)
    assert [line.next() for _ in range(5)] == added


def test_one_job_does_not_wait_for_a_thousand_of_another(line: Line) -> None:
    line.add("g", 1000)
    line.served(100)
    line.add("p")
    assert line.served(3) == "pgg"


def preferring(line: Line, *wanted: str) -> str:
    job = line.queue.choose(lambda job: True, lambda job: job in wanted)
    assert job is not None
    line.queue.serve(job)
    return job


def test_a_job_is_preferred_to_the_first_by_one_turn_at_most(line: Line) -> None:
    a = line.add("a", 4)
    b = line.add("b", 4)
    assert preferring(line, a[2], b[2]) == a[0], "both are two turns behind"
    assert preferring(line, a[1]) == a[1], "one behind the first, which is b's"
    assert preferring(line, a[2]) == b[0], "that one was passed over once"


def test_the_first_is_preferred_if_it_may_be(line: Line) -> None:
    a, b = line.add("a", 2), line.add("b", 2)
    assert preferring(line, *a, *b) == a[0]


def test_one_that_lost_its_slot_is_before_what_is_preferred(line: Line) -> None:
    a = line.add("a", 2)
    line.queue.serve(a[0])
    line.queue.give_back(a[0], 0.0)
    assert preferring(line, a[1]) == a[0]


def test_no_tenant_gets_more_for_what_is_preferred(line: Line) -> None:
    line.add("a", 100)
    line.add("b", 100)
    served = ""
    for _ in range(100):
        job = line.queue.choose(lambda job: True, lambda job: job[0] == "a")
        assert job is not None
        line.queue.serve(job)
        served += job[0]
        assert abs(served.count("a") - served.count("b")) <= 2


def test_the_queue_says_since_when_its_next_job_waits(line: Line) -> None:
    assert line.queue.since() is None
    first, second = line.add("a", 2)
    assert line.queue.since() == float(first[1:])
    line.next()
    assert line.queue.since() == float(second[1:])
    line.next()
    line.queue.give_back(first, 0.5)
    assert line.queue.since() == 0.5


def test_who_comes_again_and_again_gets_its_turn_and_no_more(line: Line) -> None:
    line.add("g", 100)
    line.served(10)
    line.add("p", 50)
    assert line.served(8) in ("pgpgpgpg", "pgpgpggp")


def test_of_two_newcomers_the_first_is_first(line: Line) -> None:
    line.add("g", 100)
    line.served(10)
    for tenant in "xyz":
        line.add(tenant)
    assert line.served(4) == "xyzg"


def test_nobody_saves_up_turns(line: Line) -> None:
    line.add("g", 100)
    line.add("p")
    line.served(60)
    line.add("p", 20)
    assert Counter(line.served(20))["p"] <= 11


def test_a_job_that_lost_its_slot_is_before_all_others_and_is_not_paid_again(line: Line) -> None:
    line.add("a", 3)
    line.add("b", 3)
    lost = line.next()
    line.served(2)
    line.queue.give_back(lost, 1.0)
    assert len(line.queue) == 4
    assert line.queue.positions()[lost] == 1
    finish = line.queue.finish(lost[0])
    assert line.next() == lost
    assert line.queue.finish(lost[0]) == finish


@pytest.mark.parametrize(
    ("passed", "found"),
    [([], "a1"), (["a1"], "a2"), (["a1", "a2"], "b3"), (["a1", "a2", "b3", "b4"], None)],
)
def test_what_does_not_fit_is_passed_over(line: Line, passed: list[str], found: str) -> None:
    line.add("a", 2)
    line.add("b", 2)
    assert line.queue.choose(lambda job: job not in passed) == found


def test_a_job_that_left_is_not_served(line: Line) -> None:
    a, b = line.add("a", 2), line.add("b")
    assert line.queue.leave(a[0])
    assert not line.queue.leave(a[0])
    assert line.queue.serve(a[0]) is None
    assert [line.next(), line.next()] == [a[1], *b]
    assert (len(line.queue), line.queue.head()) == (0, None)


def test_what_was_served_elsewhere_counts(line: Line) -> None:
    line.add("a", 50)
    line.add("b", 50)
    line.queue.paid("a", 10.0, 9.0)
    assert line.served(10) == "b" * 10
    assert Counter(line.served(10)) == {"a": 5, "b": 5}


def test_a_newcomer_is_before_those_who_wait_elsewhere(line: Line) -> None:
    line.queue.paid("g", 50.0, 49.0)
    line.queue.elsewhere = 48.5
    line.add("p")
    head = line.queue.head()
    assert head is not None
    assert (head[0].start, head[0].known, head[1]) == (48.5, False, "p")


def test_a_newcomer_is_owed_nothing_for_a_tag_that_is_late(line: Line) -> None:
    line.add("g", 20)
    line.queue.paid("h", 50.0, 49.0)
    line.queue.elsewhere = 3.0
    line.add("p", 30)
    assert line.served(20) == "g" * 20, "those that are far behind first"
    line.queue.paid("g", 52.0, 51.0)
    line.add("g", 30)
    assert line.served(12).count("p") <= 9


def test_the_part_of_a_tenant_goes_by_the_weights_of_those_that_wait(line: Line) -> None:
    line.add("a", 2, weight=3.0)
    assert line.queue.part("a") == 1.0
    line.add("b", 1, weight=1.0)
    assert (line.queue.part("a"), line.queue.part("b")) == (0.75, 0.25)
    assert line.queue.part("nobody") == 1.0


def test_idle_tenants_are_forgotten(line: Line) -> None:
    for number in range(20 * SPARE):
        line.queue.enter(f"j{number}", f"t{number}", 1.0, number)
        line.queue.serve(f"j{number}")
        line.add("x")
        line.next()
    assert len(line.queue._tenants) <= 4 * SPARE


@given(st.lists(WEIGHTS, min_size=2, max_size=5))
def test_those_that_always_wait_get_their_shares(weights: list[float]) -> None:
    """Within one job each (Goyal et al., theorem 1: |Wf/rf - Wm/rm| <= lf/rf + lm/rm)."""
    line, slots = Line(), 300
    tenants = dict(zip("abcde", weights, strict=False))
    for tenant, weight in tenants.items():
        line.add(tenant, slots, weight)
    got: Counter[str] = Counter()
    for tenant in line.served(slots):
        got[tenant] += 1
        for one, other in (("a", "b"), ("b", "a")):
            bound = 1 / tenants[one] + 1 / tenants[other]
            apart = got[one] / tenants[one] - got[other] / tenants[other]
            assert apart <= bound + 1e-6 * slots


@given(st.lists(st.tuples(TENANTS, WEIGHTS), max_size=30), st.integers(0, 10))
def test_positions_are_the_order_in_which_all_is_served(
    jobs: list[tuple[str, float]], first: int
) -> None:
    line = Line()
    weights: dict[str, float] = {}
    for tenant, weight in jobs:
        line.add(tenant, 1, weights.setdefault(tenant, weight))
    for _ in range(min(first, len(jobs))):
        line.next()
    told = line.queue.positions()
    served = {line.next(): place for place in range(1, len(told) + 1)}
    assert {job[0]: place for job, place in told.items()}.keys() == {job[0] for job in served}
    tags = sorted(told, key=told.__getitem__)
    assert [job[0] for job in tags] == [job[0] for job in served] or len(set(weights)) > 1


class Machine(RuleBasedStateMachine):
    """Whatever comes, leaves, is served or lost: nobody waits for ever, and nobody is passed by a
    later one of its own tenant."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.waiting: dict[str, float] = {}
        self.running: list[str] = []
        self.lost: set[str] = set()

    @rule(tenant=TENANTS, jobs=st.integers(1, 4), weight=WEIGHTS)
    def comes(self, tenant: str, jobs: int, weight: float) -> None:
        self.waiting |= {job: float(job[1:]) for job in self.line.add(tenant, jobs, weight)}

    @precondition(lambda self: self.waiting)
    @rule()
    def is_served(self) -> None:
        job = self.line.next()
        earlier = [j for j, at in self.waiting.items() if j[0] == job[0] and at < float(job[1:])]
        assert job in self.lost or not set(earlier) - self.lost
        del self.waiting[job]
        self.running.append(job)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.line.queue.leave(job)
        del self.waiting[job]

    @precondition(lambda self: self.running)
    @rule()
    def loses_its_slot(self) -> None:
        job = self.running.pop(0)
        self.line.queue.give_back(job, float(job[1:]))
        self.waiting[job] = float(job[1:])
        self.lost.add(job)

    @rule(tenant=TENANTS, more=st.floats(0, 5))
    def is_served_elsewhere(self, tenant: str, more: float) -> None:
        queue = self.line.queue
        queue.paid(tenant, queue.finish(tenant) + more, queue.virtual)

    @invariant()
    def all_are_there(self) -> None:
        queue = self.line.queue
        assert len(queue) == len(self.waiting)
        assert set(queue.positions()) == set(self.waiting)
        assert all(job in queue for job in self.waiting)

    def teardown(self) -> None:
        assert {self.line.next() for _ in range(len(self.waiting))} == set(self.waiting)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.tuples(TENANTS, st.integers(1, 30)), min_size=1, max_size=12), WEIGHTS)
def test_a_job_waits_for_its_share_at_most(others: list[tuple[str, int]], weight: float) -> None:
    """A newcomer's first job waits for at most one job of each other tenant."""
    line = Line()
    for tenant, jobs in others:
        line.add(tenant, jobs)
        line.served(min(jobs, 3))
    (job,) = line.add("n", 1, weight)
    tenants = {tenant for tenant, _ in others}
    for _ in range(len(tenants) + 1):
        if line.next() == job:
            return
    raise AssertionError("it waits for more than one of each")


@given(
    st.lists(st.tuples(TENANTS, st.sampled_from((0.5, 1.0, 3.0))), min_size=1, max_size=40),
    st.integers(0, 20),
)
def test_the_place_of_a_newcomer_is_that_in_the_order_apart_from_equals(
    jobs: list[tuple[str, float]], served: int
) -> None:
    line = Line()
    for tenant, weight in jobs:
        line.add(tenant, 1, weight)
    for _ in range(min(served, len(jobs) - 1)):
        line.next()
    tenant, weight = jobs[-1]
    (newcomer,) = line.add(tenant, 1, weight)
    place, position = line.queue.place_of_last(tenant), line.queue.positions()[newcomer]
    assert place <= position < place + len(set("abcd"))


def test_open_jobs_are_counted_by_lane_and_by_tenant() -> None:
    queues = Queues()
    queue = queues.opened("m", "i", "acme")
    assert (queue.name, queue.open, queues.of("m", "i") is queue) == (("m", "i"), 1, True)
    queues.opened("m", "b", "acme")
    assert queues.tenants == {("m", "acme"): 2}
    queues.closed("m", "i", "acme")
    assert (queue.open, queues.of("m", "b").open) == (0, 1)
    queues.closed("m", "b", "acme")
    assert queues.tenants == {}, "tenants come and go"

"""Every state that one job can reach in a small world, searched through over the real ticket.

What must hold in each: the client's text is the beginning of the one right text, and ends once;
nobody works on without the ticket's knowledge; one dead letter and one charge at most, and one if
the client has the end of a provider's answer. And from each state the
job can still come to an end: none is forgotten.

`HEADRACE_SEARCH=1 pytest tests/unit/ingress/jobs/test_ticket_search.py` lets one message be lost,
doubled or overtaken, one lease run out early, one holder fail or die on each path, at any place. It
takes minutes; by default holders only fall silent, are replaced, and speak on.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingress.jobs import custody
from ingress.jobs.state import Postings, Received, Resumers, Terms
from schemas import subjects
from tests.unit.ingress.jobs.search_world import World, frozen, thawed
from tests.unit.ingress.jobs.swap_world import SwapWorld

FAULTS = int(os.environ.get("HEADRACE_SEARCH", "0"))
WORKERS: dict[str, Any] = {"max_attempts": 3, "resumers": Resumers(workers=True)}
PROVIDERS: dict[str, Any] = {**WORKERS, "max_attempts": 1, "may_leave": True}


@dataclass
class Search:
    """`came`: for each state, the state before and the step; `back`: all states before it."""

    came: list[tuple[int, str]] = field(default_factory=list)
    back: list[list[int]] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    wrong: str = ""
    """The first path on which something does not hold."""
    known: dict[bytes, int] = field(default_factory=dict)

    def run(self, world: Any) -> Search:
        waiting = deque([(0, self.enter(world, 0, "begins"))])
        while waiting and not self.wrong:
            number, state = waiting.popleft()
            first = thawed(state, type(world))
            for at, (name, take) in enumerate(list(first.steps())):
                after = thawed(state, type(world)) if at else first
                take(after)
                after.after()
                fresh = len(self.came)
                entered = self.enter(after, number, name)
                if after.gone_wrong:
                    self.wrong = f"{after.gone_wrong}: {self.path(number)}, {name}"
                    break
                if len(self.came) > fresh and fresh not in self.ends:
                    waiting.append((fresh, entered))
        return self

    def enter(self, world: Any, before: int, step: str) -> bytes:
        over = world.over
        if over:
            world.check_end()
        state = frozen(world)
        digest = hashlib.blake2b(state, digest_size=12).digest()
        number = self.known.setdefault(digest, len(self.came))
        if number == len(self.came):
            self.came.append((before, step))
            self.back.append([])
            if over or world.is_edge():
                self.ends.add(number)
        self.back[number].append(before)
        return state

    def path(self, number: int) -> str:
        steps = []
        while number:
            number, step = self.came[number]
            steps.append(step)
        return ", ".join(reversed(steps))

    def forgotten(self) -> list[str]:
        """Paths to states from which the job cannot end."""
        reached, waiting = set(self.ends), deque(self.ends)
        while waiting:
            for before in self.back[waiting.popleft()]:
                if before not in reached:
                    reached.add(before)
                    waiting.append(before)
        return [self.path(number) for number in range(len(self.came)) if number not in reached]


@pytest.mark.parametrize(
    ("terms", "reads"),
    [(WORKERS, True), (WORKERS, False), (PROVIDERS, True)],
    ids=["workers", "workers, read at the end", "providers too"],
)
def test_all_of_a_small_world_is_right(terms: dict[str, Any], reads: bool) -> None:
    found = Search().run(World(FAULTS, 2, reads, **terms))
    assert found.wrong == ""
    assert found.forgotten() == []
    assert len(found.came) > 1000, "the world is smaller than it was"


def test_all_is_right_if_a_batch_job_becomes_interactive_at_any_time_without_a_holder() -> None:
    found = Search().run(World(FAULTS, 2, lane=subjects.BATCH, **PROVIDERS))
    assert found.wrong == ""
    assert found.forgotten() == []
    assert "promotes it" in {step for _, step in found.came}


def test_all_is_right_if_a_job_waits_where_its_cache_is() -> None:
    """One worker alone is asked there. If it does not come, or has the job and loses it, the job is
    for all."""
    found = Search().run(World(FAULTS, 2, lane=subjects.pinned("node-h0"), **PROVIDERS))
    assert found.wrong == ""
    assert found.forgotten() == []
    steps = {step for _, step in found.came}
    assert {"is not taken there", "revokes", "moves it"} <= steps


def test_a_job_that_stays_where_its_worker_is_lost_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Terms, "home_of", lambda _, lane: lane)
    found = Search().run(World(0, 2, lane=subjects.pinned("node-h0"), **WORKERS))
    assert "revokes" in (found.wrong or found.forgotten()[0])


def test_all_is_right_if_the_same_worker_takes_the_job_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It leaves the job to others, who are too busy, and has it again."""
    monkeypatch.setattr(custody, "MOST_LEFT", 1)
    found = Search().run(World(0, 3, one_worker=True, **{**WORKERS, "max_attempts": 2}))
    assert found.wrong == ""
    assert found.forgotten() == []
    assert len(found.came) > 1000, "the world is smaller than it was"


def test_two_jobs_that_exchange_their_messages_are_both_served_in_any_order() -> None:
    found = Search().run(SwapWorld(FAULTS, 4))
    assert found.wrong == ""
    assert found.forgotten() == []
    assert len(found.came) > 500, "the world is smaller than it was"


def test_slots_that_go_from_one_ingress_to_another_leave_no_job_behind() -> None:
    found = Search().run(SwapWorld(FAULTS, 2, several=True))
    assert found.wrong == ""
    assert found.forgotten() == []
    assert len(found.came) > 1000, "the world is smaller than it was"


def test_a_job_whose_slot_by_anothers_message_is_lost_is_found_out_if_it_is_not_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Postings, "send_unsent", lambda *_: False)
    assert "waits and has no message" in Search().run(SwapWorld(1, 2, several=True)).wrong


def test_an_exchange_that_leaves_a_job_without_a_message_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both have the same one then."""
    monkeypatch.setattr(Postings, "exchange", lambda mine, other: mine._have(other.newest))
    assert "two jobs have one message" in Search().run(SwapWorld(0, 3)).wrong


def test_a_job_that_is_not_published_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search sees what it is for."""
    monkeypatch.setattr(Postings, "publish_anew", lambda *_, **__: None)
    found = Search().run(World(0, 2, **WORKERS))
    assert "revokes" in (found.wrong or found.forgotten()[0])


def test_words_that_are_left_of_a_lost_holder_are_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Received, "forget", lambda _: None)
    assert "the client has ['w0 ', 'w0 '" in Search().run(World(0, 2, False, **WORKERS)).wrong

"""Crashes, lost messages, late holders and sweeps in any order: the books stay right."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallback.credits import journal, ledger
from fallback.credits.entries import Entry, EntryKind, Hold, Name, Reservation
from fallback.credits.faults import LedgerError
from fallback.credits.ledger import Ledger
from fallback.credits.state import headers, name_of
from schemas.bus import BusError
from tests.unit.fallback.credits.counter_stream import Call, CounterBus, Counters, purchase, subject

ACCOUNT = "acme"
PROCESSES = 3
FOREVER = 1000.0

amounts = st.integers(0, 40)
picks = st.integers(0, 10**6)
luck = st.integers(0, 3)
"""What is rare happens when it is 0."""


class Process:
    """One fallback: a connection, a ledger, what it does and what it holds."""

    def __init__(self, counters: Counters, number: int, dead: set[str]) -> None:
        self.holder = f"h{number}"
        self.bus = CounterBus(counters, self.holder)
        self.ledger = Ledger(
            self.bus, alive=lambda holder: holder not in dead, clock=lambda: counters.now
        )
        self.tasks: list[asyncio.Task[Any]] = []
        self.reserving: list[asyncio.Task[Hold]] = []
        self.held: list[Hold] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self.tasks.append(task)
        return task

    async def end(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.ledger._journal.close()

    def collect(self) -> None:
        """Take in what has come of the tasks that are done."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            fault = task.exception()
            assert fault is None or isinstance(fault, LedgerError), fault
            if task in self.reserving and fault is None:
                self.held.append(task.result())


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.counters = Counters()
        self.dead: set[str] = set()
        self.made = 0
        self.turns: Counter[str] = Counter()
        self.late: list[tuple[str, dict[str, str]]] = []
        self.settled: list[tuple[Name, asyncio.Task[bool]]] = []
        self.processes: list[Process] = []

    @initialize(first=st.sampled_from([0, 60, 400]))
    def begin(self, first: int) -> None:
        self.grant(first)
        for _ in range(PROCESSES):
            self.start()

    def start(self) -> Process:
        self.made += 1
        process = Process(self.counters, self.made, self.dead)
        self.loop.run_until_complete(process.ledger.open())
        process.bus.held = process.bus.gated = True
        self.processes.append(process)
        return process

    def act(self, work: Any) -> None:
        """Do something inside the loop, and let everybody go on as far as they can."""

        async def inside() -> None:
            work()
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(inside())
        for process in self.processes:
            process.collect()

    def process(self, pick: int) -> Process:
        return self.processes[pick % len(self.processes)]

    @precondition(lambda self: self.balance() < 20)
    @rule(amount=amounts)
    def grant(self, amount: int) -> None:
        head = headers(EntryKind.GRANT, amount, f"grant:{len(self.counters.messages)}")
        self.counters.write(subject(ACCOUNT), head)

    @rule(pick=picks, job=st.sampled_from(["j1", "j2"]), amount=amounts, patient=st.booleans())
    def reserve(self, pick: int, job: str, amount: int, patient: bool) -> None:
        self.turns[job] += 1
        turn, process = self.turns[job], self.process(pick)
        what = Reservation(ACCOUNT, job, turn, process.holder, amount, first=turn == 1)
        self.patience(patient)
        self.act(lambda: process.reserving.append(process.run(process.ledger.reserve(what))))

    def patience(self, patient: bool) -> None:
        ledger.RESERVE_PATIENCE = ledger.CLOSE_PATIENCE = FOREVER if patient else 0.0

    @precondition(lambda self: self.holding())
    @rule(pick=picks, cost=amounts, patient=st.booleans(), keep=st.booleans())
    def settle(self, pick: int, cost: int, patient: bool, keep: bool) -> None:
        """`keep`: its caller may settle or release again."""
        process, held = self.holding()[pick % len(self.holding())]
        if not keep:
            process.held.remove(held)
        self.patience(patient)
        work = process.ledger.settle(held, purchase(held.what.job, cost=cost))
        self.act(lambda: self.settled.append((held.name, process.run(work))))

    @precondition(lambda self: self.holding())
    @rule(pick=picks, patient=st.booleans())
    def release(self, pick: int, patient: bool) -> None:
        process, held = self.holding()[pick % len(self.holding())]
        process.held.remove(held)
        self.patience(patient)
        self.act(lambda: process.run(process.ledger.release(held, "failed")))

    def holding(self) -> list[tuple[Process, Hold]]:
        return [(process, held) for process in self.processes for held in process.held]

    @precondition(lambda self: self.waiting())
    @rule()
    def rush(self) -> None:
        """The broker answers everything, in order, and everybody reads it."""
        while calls := self.waiting():
            for call in calls:
                call.bus.calls.remove(call)
                if not call.answer.done():
                    self.act(lambda call=call: self.serve(call))
        for process in self.processes:
            self.act(lambda process=process: process.bus.flow(1000))

    def serve(self, call: Call) -> None:
        call.answer.set_result(self.counters.write(call.subject, call.headers))

    def waiting(self) -> list[Call]:
        return [call for process in self.processes for call in process.bus.calls]

    @rule(pick=picks, luck=luck)
    def sweep(self, pick: int, luck: int) -> None:
        if luck:
            return
        process = self.process(pick)
        self.act(lambda: process.run(process.ledger.sweep()))

    @rule(pick=picks, luck=luck)
    def presume_dead(self, pick: int, luck: int) -> None:
        """Its cards are lost, but it is at work: the sweep and it race."""
        if luck:
            return
        self.dead.add(self.process(pick).holder)

    @rule(pick=picks, count=st.sampled_from([1, 2, 1000]))
    def deliver(self, pick: int, count: int) -> None:
        process = self.process(pick)
        self.act(lambda: process.bus.flow(count))

    @precondition(lambda self: self.waiting())
    @rule(pick=picks, fate=st.sampled_from(["serve", "serve", "serve", "answer", "lose", "delay"]))
    def answer(self, pick: int, fate: str) -> None:
        """One message reaches the broker, or not, or later; and so does the answer to it."""
        call = self.waiting()[pick % len(self.waiting())]
        call.bus.calls.remove(call)
        if call.answer.done():
            return  # its sender gave up

        def happen() -> None:
            said = self.counters.write(call.subject, call.headers) if fate in "serve answer" else {}
            if fate == "serve":
                call.answer.set_result(said)
            else:
                call.answer.set_exception(BusError(f"lost: {fate}"))

        if fate == "delay":
            self.late.append((call.subject, call.headers))
        self.act(happen)

    @precondition(lambda self: self.late)
    @rule(pick=picks)
    def arrive(self, pick: int) -> None:
        """What a buffer held back reaches the broker after its sender gave up."""
        self.counters.write(*self.late.pop(pick % len(self.late)))

    @rule(pick=picks, sent=st.booleans(), luck=luck)
    def crash(self, pick: int, sent: bool, luck: int) -> None:
        if luck:
            return
        process = self.process(pick)
        self.processes.remove(process)
        self.kill(process, sent)
        self.start()

    def kill(self, process: Process, sent: bool) -> None:
        """As `kill -9` does: nothing more is said, but what was on its way may arrive."""
        self.dead.add(process.holder)
        for call in process.bus.calls:
            if sent:
                self.counters.write(call.subject, call.headers)
        self.counters.consumers = [c for c in self.counters.consumers if c.bus is not process.bus]
        for task in process.tasks:
            task.cancel()
        self.settled = [(name, task) for name, task in self.settled if not task.cancelling()]
        self.loop.run_until_complete(process.end())

    @invariant()
    def no_job_is_charged_twice(self) -> None:
        charged = Counter(each.job for each in self.entries(EntryKind.CHARGE))
        assert all(count == 1 for count in charged.values()), charged

    @invariant()
    def no_reservation_is_closed_twice(self) -> None:
        closed = Counter(
            name_of(each) for each in self.entries(EntryKind.CHARGE, EntryKind.RELEASE)
        )
        opened = {name_of(each): each.amount for each in self.entries(EntryKind.RESERVE)}
        assert all(count == 1 for count in closed.values()), closed
        assert closed.keys() <= opened.keys()
        for each in self.entries(EntryKind.CHARGE):
            assert each.usage is not None
            assert 0 <= each.usage.cost <= opened[name_of(each)]
            assert each.change == opened[name_of(each)] - each.usage.cost

    @invariant()
    def the_balance_is_what_the_entries_say(self) -> None:
        granted = sum(each.change for each in self.entries(EntryKind.GRANT))
        spent = sum(each.usage.cost for each in self.entries(EntryKind.CHARGE) if each.usage)
        closed = {name_of(each) for each in self.entries(EntryKind.CHARGE, EntryKind.RELEASE)}
        waiting = sum(e.amount for e in self.entries(EntryKind.RESERVE) if name_of(e) not in closed)
        assert self.balance() == granted - spent - waiting

    @invariant()
    def what_is_held_was_there(self) -> None:
        found = {name_of(each): each for each in self.entries(EntryKind.RESERVE)}
        charged = {each.job for each in self.entries(EntryKind.CHARGE)}
        for process in self.processes:
            for held in process.held:
                if held.paid:
                    assert held.what.job in charged
                else:
                    assert found[held.name].balance >= 0

    @invariant()
    def who_was_told_so_has_charged(self) -> None:
        charged = {name_of(each) for each in self.entries(EntryKind.CHARGE)}
        for name, task in self.settled:
            if task.done() and task.exception() is None and task.result():
                assert name in charged

    def entries(self, *kinds: EntryKind) -> Iterator[Entry]:
        return (each for each in self.counters.entries() if each.kind in kinds)

    def balance(self) -> int:
        return self.counters.values.get(subject(ACCOUNT), 0)

    def teardown(self) -> None:
        """Everybody dies; late messages arrive; one sweep later nothing is reserved."""
        for process in self.processes:
            self.kill(process, sent=True)
        for late in self.late:
            self.counters.write(*late)
        self.processes = []
        if self.counters.messages:
            last = self.start()
            last.bus.held = last.bus.gated = False
            self.patience(True)
            self.loop.run_until_complete(last.ledger.sweep())
            self.rest(last)
            self.loop.run_until_complete(last.ledger.close())
        self.loop.close()

    def rest(self, last: Process) -> None:
        self.no_job_is_charged_twice()
        self.no_reservation_is_closed_twice()
        self.the_balance_is_what_the_entries_say()
        opened = {name_of(each) for each in self.entries(EntryKind.RESERVE)}
        closed = {name_of(each) for each in self.entries(EntryKind.CHARGE, EntryKind.RELEASE)}
        assert opened == closed
        assert self.balance() >= 0
        found = self.loop.run_until_complete(last.ledger.balance(ACCOUNT))
        assert (found.available, found.reserved) == (self.balance(), 0)


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for time to pass: what they wait for is one of the rules."""
    monkeypatch.setattr(journal, "_RETRY", 0.0)
    monkeypatch.setattr(ledger, "RECOVERY", 0.0)
    for name in ("RESERVE_PATIENCE", "CLOSE_PATIENCE"):
        monkeypatch.setattr(ledger, name, FOREVER)


TestBooks = LedgerMachine.TestCase


STEPS = {
    "reserve": 8, "settle": 8, "release": 2, "answer": 14, "rush": 2, "deliver": 8, "arrive": 1,
    "crash": 0.3, "sweep": 0.5, "presume_dead": 0.3, "grant": 0.3,
}  # fmt: skip


def test_long_walks(subtests: pytest.Subtests) -> None:
    """The machine's rules at random: further than hypothesis goes, without its shrinking."""
    for seed in range(30):
        with subtests.test(f"seed {seed}"):
            dice, made = random.Random(seed), LedgerMachine()
            made.begin(first=dice.choice([60, 400]))
            for step in dice.choices(list(STEPS), list(STEPS.values()), k=250):
                walk(made, dice, step)
                made.no_job_is_charged_twice()
                made.who_was_told_so_has_charged()
                made.what_is_held_was_there()
            charged = len(list(made.entries(EntryKind.CHARGE)))
            made.teardown()
            assert charged > 0


def walk(made: LedgerMachine, dice: random.Random, step: str) -> None:
    pick, amount, flag = dice.randrange(10**6), dice.randrange(41), dice.random() < 0.7
    if step == "reserve" and len(made.holding()) < 6:
        made.reserve(pick, dice.choice(["j1", "j2", f"k{pick % 9}"]), amount, flag)
    elif step == "settle" and made.holding():
        made.settle(pick, amount, flag, dice.random() < 0.2)
    elif step == "release" and made.holding():
        made.release(pick, flag)
    elif step == "answer" and made.waiting():
        made.answer(pick, dice.choices(["serve", "answer", "lose", "delay"], [12, 1, 1, 1])[0])
    elif step == "rush" and made.waiting():
        made.rush()
    elif step == "deliver":
        made.deliver(pick, dice.choice([1, 3, 1000]))
    elif step == "arrive" and made.late:
        made.arrive(pick)
    elif step == "crash":
        made.crash(pick, flag, 0)
    elif step == "sweep":
        made.sweep(pick, 0)
    elif step == "presume_dead":
        made.presume_dead(pick, 0)
    elif step == "grant":
        made.grant(200)

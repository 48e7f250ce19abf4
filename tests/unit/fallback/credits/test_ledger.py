"""What one holder meets: too little, lost answers, late settling, a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from fallback.credits import journal, ledger
from fallback.credits.entries import Balance, Entry, EntryKind, Last, Reservation
from fallback.credits.faults import Insufficient, LedgerError, Superseded
from fallback.credits.ledger import Ledger
from fallback.credits.state import headers
from schemas.bus import BusError, Message
from tests.unit import fakes
from tests.unit.fallback.credits.counter_stream import CounterBus, Counters, purchase, subject

Open = Callable[[str], Awaitable[tuple[Ledger, CounterBus]]]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def dead() -> set[str]:
    return set()


@pytest.fixture
async def opened(counters: Counters, dead: set[str]) -> AsyncIterator[Open]:
    made: list[Ledger] = []

    async def open_one(name: str) -> tuple[Ledger, CounterBus]:
        bus = CounterBus(counters, name)
        found = Ledger(bus, alive=lambda holder: holder not in dead, clock=lambda: counters.now)
        await found.open()
        made.append(found)
        return found, bus

    yield open_one
    for each in made:
        await each.close()


@pytest.fixture
async def one(opened: Open, counters: Counters) -> tuple[Ledger, CounterBus]:
    """A ledger, its connection, and an account with 100."""
    found, bus = await opened("one")
    await found.grant("acme", 100)
    return found, bus


def want(amount: int = 10, turn: int = 1, holder: str = "h1", job: str = "j") -> Reservation:
    return Reservation("acme", job, turn, holder, amount, first=turn == 1)


def kinds(counters: Counters) -> list[EntryKind]:
    return [entry.kind for entry in counters.entries()]


def last(counters: Counters) -> Entry:
    return counters.entries()[-1]


async def test_too_little_writes_nothing(one: tuple[Ledger, CounterBus]) -> None:
    found, bus = one
    before = bus.stored
    with pytest.raises(Insufficient) as caught:
        await found.reserve(want(101))
    assert (caught.value.needed, caught.value.available) == (101, 100)
    assert bus.stored == before
    with pytest.raises(Insufficient):
        await found.reserve(Reservation("nobody", "j", 1, "h", 1))


async def test_jobs_of_one_request_are_reserved_for_if_there_is_enough_for_all(
    one: tuple[Ledger, CounterBus],
) -> None:
    """The account holds 100. What was reserved for one of them is not needed again."""
    found, _ = one

    def part(job: str, amount: int) -> Reservation:
        return replace(want(amount, job=job), together=("j0", "j1", "j2"))

    with pytest.raises(Insufficient) as caught:
        await found.reserve(part("j1", 34))
    assert (caught.value.needed, caught.value.available) == (102, 100)
    for job in ("j2", "j0", "j1"):
        await found.reserve(part(job, 33))
    assert (await found.balance("acme")) == Balance(1, 99)


async def test_nothing_can_be_reserved_below_zero(one: tuple[Ledger, CounterBus]) -> None:
    with pytest.raises(ValueError, match="-1"):
        await one[0].reserve(want(-1))


async def test_what_was_not_used_comes_back(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, _ = one
    held = await found.reserve(want(30))
    assert await found.balance("acme") == Balance(70, 30)
    assert await found.settle(held, purchase("j", prompt=3, cost=12))
    assert await found.balance("acme") == Balance(88, 0)
    charged = last(counters).usage
    assert charged is not None
    assert (charged.cost, charged.prompt) == (12, 3)


async def test_a_dearer_bill_is_charged_up_to_the_reservation(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, _ = one
    held = await found.reserve(want(30))
    assert await found.settle(held, purchase("j", cost=31))
    assert await found.balance("acme") == Balance(70, 0)
    charged = last(counters).usage
    assert charged is not None
    assert (charged.cost, charged.uncharged) == (30, 1)


async def test_an_overdraft_by_others_is_given_back_and_tried_again(
    one: tuple[Ledger, CounterBus], counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the reservation somebody takes more than there is, and gives it back."""
    monkeypatch.setattr(ledger, "RECOVERY", 0.0)
    found, bus = one
    bus.gated = True
    task = asyncio.create_task(found.reserve(want(80)))
    while not bus.calls:
        await asyncio.sleep(0)
    counters.write(subject(), headers(EntryKind.OTHER, -90, "other"))
    first = bus.calls.pop()
    first.answer.set_result(counters.write(first.subject, first.headers))
    while not bus.calls:
        await asyncio.sleep(0)
    back = bus.calls.pop()
    back.answer.set_result(counters.write(back.subject, back.headers))
    assert last(counters).note == "overdrawn"
    counters.write(subject(), headers(EntryKind.OTHER, 90, "other back"))
    bus.gated = False
    assert (await task).name.take == 1
    assert await found.balance("acme") == Balance(20, 80)


async def test_a_refused_turn_may_ask_for_less(
    one: tuple[Ledger, CounterBus],
) -> None:
    found, _ = one
    held = await found.reserve(want(80))
    await found.release(held, "too dear")
    again = await found.reserve(want(5))
    assert again.name.take == 1
    assert await found.settle(again, purchase("j", cost=5))


async def test_a_lost_answer_is_asked_for_again(
    one: tuple[Ledger, CounterBus], counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_RETRY", 0.0)
    found, bus = one
    bus.gated = True
    task = asyncio.create_task(found.reserve(want(30)))
    while not bus.calls:
        await asyncio.sleep(0)
    call = bus.calls.pop()
    bus.gated = False
    counters.write(call.subject, call.headers)
    call.answer.set_exception(BusError("lost"))
    held = await task
    assert (held.seq, held.name.take) == (2, 0)
    assert await found.balance("acme") == Balance(70, 30)


async def test_somebody_elses_turn_is_refused(
    one: tuple[Ledger, CounterBus], opened: Open, counters: Counters
) -> None:
    second, bus = await opened("two")
    bus.held = True
    await one[0].reserve(want(30, holder="a"))
    task = asyncio.create_task(second.reserve(want(30, holder="b")))
    await fakes.turns(20)
    bus.flow(10)
    with pytest.raises(LedgerError, match="somebody else"):
        await task
    assert kinds(counters).count(EntryKind.RESERVE) == 1


async def test_an_earlier_holder_that_comes_later_is_told(
    one: tuple[Ledger, CounterBus], opened: Open
) -> None:
    second, _ = await opened("two")
    await second.reserve(want(10, turn=3, holder="c"))
    with pytest.raises(Superseded):
        await one[0].reserve(want(10, turn=2, holder="b"))
    assert await second.balance("acme") == Balance(90, 10)


async def test_a_balance_is_of_one_moment(
    one: tuple[Ledger, CounterBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation that is released while somebody asks is in the money, or still reserved."""
    found, _ = one
    held, journal = await found.reserve(want(30)), found._journal
    ask = journal.last

    async def last(account: str) -> Last:
        told = await ask(account)
        if held.name in found._own:
            await found.release(held, "meanwhile")
            await journal.reached(told.seq + 1)
        return told

    monkeypatch.setattr(journal, "last", last)
    assert await found.balance("acme") == Balance(100, 0)


async def test_after_an_hour_it_is_left_to_the_sweep(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, _ = one
    held = await found.reserve(want(30))
    counters.now += ledger.OLDEST + 1
    assert not await found.settle(held, purchase("j", cost=30))
    assert await found.balance("acme") == Balance(70, 30)
    assert await found.sweep() == 1
    assert await found.balance("acme") == Balance(100, 0)


async def test_what_the_broker_did_not_take_is_owed(
    one: tuple[Ledger, CounterBus], counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "CLOSE_PATIENCE", 0.0)
    found, bus = one
    held = await found.reserve(want(30))
    bus.away = True
    with pytest.raises(LedgerError, match="away"):
        await found.settle(held, purchase("j", cost=20))
    with pytest.raises(LedgerError):
        await found.sweep()
    bus.away = False
    assert await found.sweep() == 0
    assert last(counters).kind is EntryKind.CHARGE
    assert await found.balance("acme") == Balance(80, 0)


async def test_what_is_owed_is_paid_at_the_end(
    opened: Open, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "CLOSE_PATIENCE", 0.0)
    found, bus = await opened("two")
    await found.grant("acme", 100)
    held = await found.reserve(want(30))
    bus.away = True
    with pytest.raises(LedgerError):
        await found.release(held, "failed")
    bus.away = False
    await found.close()
    assert (last(counters).kind, last(counters).note) == (EntryKind.RELEASE, "failed")


async def test_a_reservation_given_up_in_the_middle_is_swept(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, bus = one
    bus.gated = True
    task = asyncio.create_task(found.reserve(want(30)))
    while not bus.calls:
        await asyncio.sleep(0)
    call = bus.calls.pop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    counters.write(call.subject, call.headers)  # it was on its way
    bus.gated = False
    assert await found.sweep() == 1
    assert await found.balance("acme") == Balance(100, 0)


async def test_the_sweep_leaves_what_is_held(
    one: tuple[Ledger, CounterBus], opened: Open, dead: set[str]
) -> None:
    second, _ = await opened("two")
    await one[0].reserve(want(30))
    assert (await one[0].sweep(), await second.sweep()) == (0, 0)
    dead.add("h1")
    assert await one[0].sweep() == 0, "it is alive itself, whatever is said"
    assert await second.sweep() == 1


async def test_a_settle_after_the_sweep_charges_nothing(
    one: tuple[Ledger, CounterBus], opened: Open, dead: set[str]
) -> None:
    second, _ = await opened("two")
    held = await one[0].reserve(want(30))
    dead.add("h1")
    assert await second.sweep() == 1
    assert not await one[0].settle(held, purchase("j", cost=20))
    assert await one[0].balance("acme") == Balance(100, 0)


async def test_a_correction_that_is_spent_meanwhile_is_undone(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, bus = one
    bus.gated = True
    task = asyncio.create_task(found.grant("acme", -60, "a mistake"))
    while not bus.calls:
        await asyncio.sleep(0)
    counters.write(subject(), headers(EntryKind.OTHER, -50, "spent"))
    bus.gated = False
    call = bus.calls.pop()
    call.answer.set_result(counters.write(call.subject, call.headers))
    with pytest.raises(Insufficient) as caught:
        await task
    assert caught.value.available == 50
    assert last(counters).note == "not covered"


async def test_everything_says_that_the_broker_is_away(
    one: tuple[Ledger, CounterBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, bus = one
    bus.away = True
    monkeypatch.setattr(journal, "READ_PATIENCE", 0.0)
    with pytest.raises(LedgerError):
        await found.balance("acme")
    with pytest.raises(LedgerError):
        [entry async for entry in found.history("acme")]
    with pytest.raises(LedgerError):
        await found.balances()
    with pytest.raises(LedgerError):
        await found.sweep()


async def test_an_account_is_read_again_where_the_answer_was_lost(
    one: tuple[Ledger, CounterBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fallback, one time-out would be the end of a job for providers alone."""
    found, bus = one
    answers, asked = bus.request, []

    async def lost(subject: str, payload: bytes = b"", timeout: float = 2.0) -> Message:
        asked.append(subject)
        if len(asked) < 3:
            raise BusError("timeout")
        return await answers(subject, payload, timeout)

    monkeypatch.setattr(bus, "request", lost)
    monkeypatch.setattr(journal, "_RETRY", 0.0)
    assert (await found.balance("acme")).available == 100
    assert len(asked) == 3


async def test_a_view_that_lags_is_waited_for_and_no_longer(
    one: tuple[Ledger, CounterBus], counters: Counters
) -> None:
    found, bus = one
    bus.held = True
    held = await found.reserve(want(30))
    task = asyncio.create_task(found.settle(held, purchase("j", cost=10)))
    await fakes.turns(20)
    assert not task.done(), "it cannot know yet whether somebody else has charged"
    bus.flow(10)
    assert await task
    with pytest.raises(LedgerError, match="could not be read"):
        await found._journal.reached(99, within=0)


async def test_no_more_accounts_are_asked_for_than_are_wanted(
    one: tuple[Ledger, CounterBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counts(*_: object) -> tuple[dict[str, int], float]:
        return {subject(name): 1 for name in ("b", "c", "a")}, 0.0

    found, _ = one
    monkeypatch.setattr("fallback.credits.journal.streams.counts", counts)
    monkeypatch.setattr(ledger, "AT_ONCE", 1)
    asked: list[str] = []

    async def newest(_: object, stream: str, subject: str, timeout: float) -> None:
        asked.append(subject)

    monkeypatch.setattr("fallback.credits.journal.streams.newest", newest)
    assert list(await found.balances(2)) == ["a", "b"]
    assert asked == [subject("a"), subject("b")]
